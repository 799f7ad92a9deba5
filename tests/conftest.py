"""Fixtures for the tests that talk to a real server through a real client.

    def test_something(db):
        with db.connect() as connection:                 # superuser; autocommit unless told otherwise
            connection.execute("SELECT decisioning.…")
        operator = db.connect(role=db.create_role("operator"), autocommit=False)

`db` is a database of the test's own with the extension created. `empty_db` lies in a second cluster and has no extension: the
place to restore a dump into. Both vanish when the test ends, with the connections and roles made through them.
"""

import itertools
import os
import subprocess
from pathlib import Path

import psycopg
import pytest

CLUSTER_SH = Path(__file__).resolve().parent.parent / "scripts" / "cluster.sh"
TEMPLATE = "with_extension"


class Cluster:
    """A throwaway server, started and stopped by scripts/cluster.sh."""

    def __init__(self, name, primary=None):
        self.name = f"tests/{name}.{os.getpid()}"
        if primary:
            subprocess.run([CLUSTER_SH, "standby", self.name, primary.name], check=True)
        else:
            self.start()
        shell = 'eval "$("$0" env "$1")" && env -0'
        pairs = subprocess.run(["bash", "-c", shell, CLUSTER_SH, self.name], check=True, capture_output=True, text=True).stdout
        self.env = dict(pair.split("=", 1) for pair in pairs.split("\0") if pair)
        self.numbers = itertools.count(1)

    def start(self):
        """Starts the server unless it runs."""
        subprocess.run([CLUSTER_SH, "start", self.name, "-c", "statement_timeout=5min"], check=True)

    def close(self, keep):
        subprocess.run([CLUSTER_SH, "stop" if keep else "remove", self.name], check=True)

    def connect(self, dbname="postgres", role="postgres", autocommit=True, **parameters):
        return psycopg.connect(
            host=self.env["PGHOST"], port=self.env["PGPORT"], user=role, dbname=dbname, autocommit=autocommit, **parameters
        )

    def execute(self, statement, dbname="postgres"):
        with self.connect(dbname) as connection:
            connection.execute(statement)

    def create_database(self, template="template1"):
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return Database(self, name)


class Database:
    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.connections = []
        self.roles = []

    def connect(self, role="postgres", autocommit=True, **parameters):
        """A psycopg connection, closed when the test ends."""
        connection = self.cluster.connect(self.name, role, autocommit, **parameters)
        self.connections.append(connection)
        return connection

    def sql(self, query, parameters=None):
        """The rows of one statement, run by the superuser in a connection of its own."""
        with self.cluster.connect(self.name) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def create_role(self, name):
        """A login role without any rights."""
        self.cluster.execute(f'CREATE ROLE "{name}" LOGIN')
        self.roles.append(name)
        return name

    def pg_tool(self, program, *arguments, **options):
        """Runs pg_dump, pg_restore, psql, pgbench … of the server's own version against this database."""
        env = {**self.cluster.env, "PGDATABASE": self.name}
        options = {"check": True, "text": True, "stdout": subprocess.PIPE, **options}
        return subprocess.run([program, *map(str, arguments)], env=env, **options)

    def close(self):
        for connection in self.connections:
            connection.close()
        self.cluster.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
        for role in self.roles:
            self.cluster.execute(f'DROP ROLE "{role}"')


def run_cluster(request, name, primary=None):
    cluster = Cluster(name, primary)
    yield cluster
    cluster.close(keep=request.session.testsfailed > 0)


@pytest.fixture(scope="session")
def cluster(request):
    yield from run_cluster(request, "clients")


@pytest.fixture(scope="session")
def other_cluster(request):
    yield from run_cluster(request, "other")


@pytest.fixture
def standby(request, cluster):
    """A hot standby of `cluster`, as it is when the test begins and from then on."""
    yield from run_cluster(request, "standby", cluster)


@pytest.fixture(scope="session")
def template(cluster):
    cluster.execute(f"CREATE DATABASE {TEMPLATE}")
    cluster.execute("CREATE EXTENSION decisioning", TEMPLATE)
    return TEMPLATE


@pytest.fixture
def db(cluster, template):
    database = cluster.create_database(template)
    yield database
    database.close()


@pytest.fixture
def empty_db(other_cluster):
    database = other_cluster.create_database()
    yield database
    database.close()
