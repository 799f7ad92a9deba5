"""Resolves a csv file by SQL alone, and prints seconds, peak memory of the backend, and scores as one line of JSON.

  python benches/identity/ours.py FILE.csv COUNTRY

libpq's environment points at a server with the extension. A database of its own is made and dropped. The clock runs from
add_source to the end of resolve_all: reading, learning the weights, linking and writing everything, indexes included.
"""

import csv
import json
import sys
import threading
import time
from pathlib import Path

import psycopg
from scores import scores

KINDS = {
    "first_name": "given_name",
    "last_name": "family_name",
    "email": "email",
    "phone": "phone",
    "dob": "date_of_birth",
    "street": "street",
    "city": "city",
    "postcode": "postcode",
    "company": "company",
    "device_id": "device_id",
    "soc_sec_id": "text",
}


def megabytes(pid: int, entry: str) -> float:
    """Memory of a process that it alone uses (RssAnon), or with shared buffers (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1024


def main(path: str, country: str) -> None:
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench_identity")
        connection.execute("CREATE DATABASE bench_identity")
    with psycopg.connect(dbname="bench_identity", autocommit=True) as connection:
        connection.execute("CREATE EXTENSION decisioning")
        with open(path, encoding="utf-8") as file:
            columns = next(csv.reader(file))
            file.seek(0)
            connection.execute(f"CREATE TABLE rows ({', '.join(f'{column} text' for column in columns)})")
            with connection.cursor().copy("COPY rows FROM STDIN (FORMAT csv, HEADER)") as copy:
                while chunk := file.read(1 << 20):
                    copy.write(chunk)
        connection.execute("VACUUM ANALYZE rows")
        connection.execute("CHECKPOINT")
    # A new backend, whose memory is that of the run.
    with psycopg.connect(dbname="bench_identity", autocommit=True) as connection:
        pid, done, private = connection.info.backend_pid, threading.Event(), [0.0]

        def watch() -> None:
            while not done.wait(0.05):
                private[0] = max(private[0], megabytes(pid, "RssAnon"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        fields = {column: kind for column, kind in KINDS.items() if column in columns}
        start = time.perf_counter()
        connection.execute(
            "SELECT decisioning.add_source('file', 'public.rows', key => 'unique_id', fields => %s::text::jsonb, default_country => %s)",
            [json.dumps(fields), country],
        )
        connection.execute("CALL decisioning.resolve_all()")
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        with_buffers = megabytes(pid, "VmHWM")
        found = connection.execute(
            "SELECT r.true_id, m.customer_id FROM rows r JOIN decisioning.identity_map m ON m.source = 'file' AND m.record_key = r.unique_id"
        ).fetchall()
        total = connection.execute("SELECT count(*) FROM rows").fetchone()[0]
    assert len(found) == total, "every record has a customer"
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("DROP DATABASE bench_identity")
    truth, customers = zip(*found)
    print(json.dumps({"seconds": seconds, "megabytes": private[0], "with_buffers": with_buffers, **scores(truth, customers)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
