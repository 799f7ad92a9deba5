"""What is read of tables as text is the same in every session, and blanks at the end of char(n) do not count."""

import psycopg
import pytest

import shop

OTHER_STYLES = """
    SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET timezone = 'Asia/Tokyo'; SET bytea_output = 'escape'; SET extra_float_digits = -3;
"""


def styles(connection):
    names = ("datestyle", "intervalstyle", "timezone", "bytea_output", "extra_float_digits")
    return [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]


def test_records_do_not_change_with_the_style_of_dates(db):
    connection = db.connect()
    connection.execute(
        """CREATE TABLE people AS SELECT timestamptz '2026-01-01 20:00+00' + n * interval '1 hour' AS id, 'P' || n AS given, 'Fox' AS family,
                                         date '1980-05-03' + n AS born, n / 7::float8 AS login FROM generate_series(1, 20) n;
           SELECT decisioning.add_source('people', 'people', 'id',
               '{"given": "given_name", "family": "family_name", "born": "date_of_birth", "login": "external_id"}')"""
    )
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("CALL decisioning.refresh_golden_records()")
    kept = "SELECT record_number, record_key, fingerprint, customer_id FROM decisioning._record ORDER BY 1"
    born = "SELECT customer_id, date_of_birth FROM decisioning.golden_records ORDER BY 1"
    records, golden = db.sql(kept), db.sql(born)
    assert records[0][1] == "2026-01-01 21:00:00+00"
    connection.execute(OTHER_STYLES)
    before = styles(connection)
    for full in (False, True):
        connection.execute("CALL decisioning.resolve_all(%s)", [full])
        assert (db.sql(kept), db.sql(born)) == (records, golden)
    assert styles(connection) == before
    connection.execute("ALTER TABLE people RENAME born TO birth")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        connection.execute("CALL decisioning.resolve_all()")
    connection.execute("ALTER TABLE people RENAME birth TO born; ALTER TABLE people ALTER given TYPE int USING length(given)")
    connection.execute("CREATE VIEW broken AS SELECT 1 / (given - 2) AS id, given FROM people")
    connection.execute("""SELECT decisioning.add_source('broken', 'broken', 'id', '{"given": "given_name"}')""")
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("CALL decisioning.resolve_all()")
    assert styles(connection) == before, "also after an error while a table is read"


def test_a_birth_date_with_a_time_zone_is_its_day(db):
    connection = db.connect()
    connection.execute(
        """CREATE TABLE people AS SELECT n AS id, 'P' || n AS given, timestamp '1980-05-03' AT TIME ZONE zone AS born
             FROM unnest(ARRAY['Europe/Berlin', 'America/Los_Angeles', 'Asia/Tokyo', 'UTC']) WITH ORDINALITY z(zone, n);
           SELECT decisioning.add_source('people', 'people', 'id', '{"given": "given_name", "born": "date_of_birth"}')"""
    )
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("CALL decisioning.refresh_golden_records()")
    assert db.sql("SELECT DISTINCT date_of_birth::text FROM decisioning.golden_records") == [("1980-05-03",)]


@pytest.mark.parametrize(
    "event_id", ["at", "at::date + n", "at AT TIME ZONE 'UTC'", "decode('00ff', 'hex') || at::text::bytea", "n / 7::float8", "n * interval '1 hour'"]
)
def test_events_keep_their_ids(db, event_id):
    connection = db.connect()
    shop.create(connection, customers=50)
    connection.execute(
        f"""CREATE TABLE sales AS SELECT {event_id} AS id, 'c-' || n AS customer, at
            FROM (SELECT n, timestamptz '2026-05-31 20:00+00' + n * interval '1 minute' AS at FROM generate_series(1, 50) n) AS s;
            SELECT decisioning.add_outcome_source('buy', 'sales', 'customer', 'at', event_id => 'id')"""
    )
    ingest = "SELECT events, recorded, adjusted, reversed FROM decisioning.ingest_outcomes()"
    assert connection.execute(ingest).fetchone() == (50, 50, 0, 0)
    connection.execute(OTHER_STYLES)
    assert connection.execute(ingest).fetchone() == (50, 0, 0, 0)


def test_customers_are_found_by_keys_of_any_style(db):
    connection = shop.session(db)
    connection.execute("SELECT decisioning.add_goal('buy')")
    connection.execute(
        """CREATE TABLE days AS SELECT date '2020-05-03' + n AS id, n AS age FROM generate_series(1, 30) n;
           CREATE TABLE moments AS SELECT timestamptz '2020-05-03 20:00+00' + n * interval '1 hour' AS id, n AS age FROM generate_series(1, 30) n"""
    )
    for relation, key in (("days", "2020-05-04"), ("moments", "2020-05-03 21:00:00+00")):
        start(connection, relation, relation)
        connection.execute(OTHER_STYLES)
        connection.execute(f"CALL decisioning.decide_all('{relation}')")
        found = "SELECT count(*), min(customer_id) FROM decisioning.decisions WHERE campaign = %s"
        assert connection.execute(found, [relation]).fetchone() == (30, key)
        connection.execute("RESET ALL")
        connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [shop.NOW])
        assert candidates(connection, key, relation) == 2


def start(connection, campaign, relation):
    connection.execute(
        f"""SELECT decisioning.create_campaign('{campaign}', '{relation}', 'id', features => '{{age}}', holdout_share => 0);
            SELECT decisioning.add_action_grid('{campaign}', '{{"channel": ["email"]}}');
            SELECT decisioning.approve_action('{campaign}', 'email');
            SELECT decisioning.add_campaign_goal('{campaign}', 'buy', attribution_window => '1 day');
            SELECT decisioning.start_campaign('{campaign}')"""
    )


def candidates(connection, customer, campaign):
    """No-send and the e-mail for whom is in the audience, nothing otherwise. As `decide` reads one customer."""
    return connection.execute("SELECT count(*) FILTER (WHERE candidate) FROM decisioning.preview(%s, %s)", [customer, campaign]).fetchone()[0]


def test_keys_of_type_char_n(db):
    connection = shop.session(db)
    connection.execute(
        """CREATE DOMAIN code AS char(8);
           CREATE TABLE people AS SELECT ('c' || n)::char(8) AS id, n AS age, 'p' || n || '@example.com' AS mail FROM generate_series(1, 50) n;
           CREATE TABLE coded AS SELECT id::code AS id, age FROM people;
           CREATE TABLE consents AS SELECT ('c' || n)::char(8) AS id, 'email'::char(10) AS channel, n <> 7 AS granted FROM generate_series(1, 50) n;
           CREATE TABLE carts AS SELECT ('c' || n)::char(10) AS id, timestamptz '2026-06-01 09:30+00' AS at FROM generate_series(1, 20) n;
           CREATE TABLE sales AS SELECT n AS id, ('c' || n)::char(12) AS customer, timestamptz '2026-06-01 09:50+00' AS at FROM generate_series(1, 5) n;
           SELECT decisioning.add_goal('buy'), decisioning.add_outcome_source('buy', 'sales', 'customer', 'at', event_id => 'id')"""
    )
    for relation in ("people", "coded"):
        start(connection, relation, relation)
        connection.execute(f"CALL decisioning.decide_all('{relation}')")
        decided = "SELECT count(*), min(customer_id) FROM decisioning.decisions WHERE campaign = %s"
        assert connection.execute(decided, [relation]).fetchone() == (50, "c1")
        assert candidates(connection, "c9", relation) == 2

    start(connection, "consent", "people")
    connection.execute("SELECT decisioning.add_consent_source('consents', 'id', 'granted', 'channel', campaign => 'consent')")
    with_consent = "SELECT count(*) FILTER (WHERE action = 'email' AND candidate) FROM decisioning.preview('c%s', 'consent')"
    assert [connection.execute(with_consent % n).fetchone()[0] for n in (6, 7)] == [1, 0]

    start(connection, "cart", "people")
    connection.execute("SELECT decisioning.add_entry_source('cart', 'carts', 'id', 'at', valid_for => '2 hours')")
    connection.execute("CALL decisioning.decide_all('cart')")
    assert connection.execute("SELECT count(*) FROM decisioning.decisions WHERE campaign = 'cart'").fetchone() == (20,)

    connection.execute("SELECT * FROM decisioning.ingest_outcomes()")
    assert connection.execute("SELECT min(customer_id), max(customer_id) FROM decisioning.outcomes").fetchone() == ("c1", "c5")

    connection.execute("""SELECT decisioning.add_source('people', 'people', 'id', '{"mail": "email"}')""")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("CALL decisioning.refresh_golden_records()")
    known = "SELECT count(*) FROM decisioning.golden_records g JOIN people p ON p.id = g.customer_id"
    assert connection.execute(known).fetchone() == (50,)
