"""What a database must be like."""

import psycopg
import pytest


@pytest.mark.parametrize("encoding", ["LATIN1", "LATIN2", "EUC_JP", "SQL_ASCII"])
def test_only_utf8_will_do(cluster, encoding):
    name = f"in_{encoding.lower()}"
    cluster.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="decisioning needs a database of encoding UTF8") as refused:
            cluster.execute("CREATE EXTENSION decisioning", name)
        assert refused.value.diag.message_detail == f"The encoding of this database is {encoding}."
        assert "ENCODING 'UTF8' TEMPLATE template0" in refused.value.diag.message_hint
    finally:
        cluster.execute(f"DROP DATABASE {name}")
