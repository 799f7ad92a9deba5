"""Linkage by similarity through SQL: runs over changes beside full ones, and people online."""

import random
import threading

import psycopg
import pytest

from test_identity import RESOLVE, Background, wait_until_blocked

GIVEN = "Anna Ben Clara David Emma Felix Greta Henry Ida Jonas Karla Leon Mia Noah Olga Paul Rosa Simon Tina Victor".split()
FAMILY = [a + b for a in "Ber Feld Gro Hart Klein Lind Mor Rein Schu Wald".split() for b in "mann ner berg sted hoff".split()]
STREETS = [f"{name} Street" for name in "Oak Elm Mill Lake Hill Park King Bridge Garden Church".split()]
FIELDS = (
    '{"given": "given_name", "family": "family_name", "mail": "email", "born": "date_of_birth", "street": "street",'
    ' "city": "city", "zip": "postcode"}'
)


def person(n):
    """One of a population that looks the same in every test."""
    rng = random.Random(n)
    return {
        "given": rng.choice(GIVEN),
        "family": rng.choice(FAMILY),
        "mail": f"person{n}@example.com",
        "born": f"19{rng.randrange(40, 99)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 28):02}",
        "street": f"{rng.choice(STREETS)} {rng.randrange(1, 200)}",
        "city": rng.choice(["Riverton", "Hillsdale", "Lakeview", "Milton"]),
        "zip": f"{rng.randrange(10000, 10100)}",
    }


def typo(text, rng):
    at = rng.randrange(1, len(text) - 1)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def rows(persons=range(600)):
    """Two records of most persons: the second with another address or a typo, and seldom with the same mailbox."""
    for n in persons:
        rng = random.Random(n + 10**6)
        one = person(n)
        yield (f"{n}-1", one)
        if n % 4:
            other = dict(one)
            other["mail"] = None if rng.random() < 0.7 else one["mail"]
            if rng.random() < 0.3:
                other["family"] = typo(other["family"], rng)
            if rng.random() < 0.3:
                other["street"] = None
            if rng.random() < 0.15:
                other["given"] = typo(other["given"], rng)
            if rng.random() < 0.1:
                other["born"] = f"{other['born'][:8]}{rng.randrange(1, 29):02}"
            if rng.random() < 0.05:
                other["born"] = person(n + 1)["born"]
            if rng.random() < 0.1:
                other.update({column: person(n + 2)[column] for column in ("street", "city", "zip")})
            yield (f"{n}-2", other)


COLUMNS = ["given", "family", "mail", "born", "street", "city", "zip"]


def insert(connection, records, table="people"):
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (id, {', '.join(COLUMNS)}) VALUES (%s{', %s' * len(COLUMNS)})",
            [(key, *(fields[column] for column in COLUMNS)) for key, fields in records],
        )


@pytest.fixture
def people(db):
    connection = db.connect()
    connection.execute(f"CREATE TABLE people (id text, {', '.join(f'{column} text' for column in COLUMNS)}, changed timestamptz DEFAULT now())")
    insert(connection, rows())
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', %s::jsonb)", [FIELDS])
    connection.execute("CALL decisioning.resolve_all()")
    return db


def persons(db):
    """Records by customer."""
    return {frozenset(keys) for (keys,) in db.sql("SELECT array_agg(record_key) FROM decisioning.identity_map GROUP BY customer_id")}


def customer(db, key):
    return db.sql("SELECT customer_id FROM decisioning.identity_map WHERE record_key = %s", [key])[0][0]


def document(fields):
    kinds = {"given": "given_name", "family": "family_name", "mail": "email", "born": "date_of_birth", "street": "street", "city": "city", "zip": "postcode"}
    pairs = (f'"{kinds[column]}": "{value}"' for column, value in fields.items() if value)
    return "{" + ", ".join(pairs) + "}"


def pairs(groups):
    return {(a, b) for group in groups for a in group for b in group if a < b}


def test_records_are_joined_by_what_describes_a_person(people):
    found, right = pairs(persons(people)), {(f"{n}-1", f"{n}-2") for n in range(600) if n % 4}
    assert len(found & right) / len(right) > 0.95
    assert len(found & right) / len(found) > 0.95
    assert people.sql("SELECT count(*) > 100 FROM decisioning._link WHERE reason = 'similarity'") == [(True,)]
    assert people.sql("SELECT count(*) FROM decisioning._match_model") == [(1,)]


def test_a_run_over_changes_comes_to_what_a_full_run_comes_to(people):
    connection = people.connect()
    insert(connection, rows(range(600, 630)))
    insert(connection, [("0-3", {**person(0), "mail": None})])
    connection.execute("UPDATE people SET family = 'Changed', given = 'Zoe', mail = NULL, born = '1901-02-03', street = 'Elsewhere 9' WHERE id = '1-2'")
    connection.execute("DELETE FROM people WHERE id IN ('2-2', '4-1')")
    untouched = people.sql("SELECT r.ctid, r.xmin::text FROM decisioning._record r WHERE r.record_key LIKE '3__-_' ORDER BY 1")
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("CALL decisioning.resolve_all()")
    assert any(notice.startswith("54 records are new or changed, 2 are gone") for notice in notices), notices
    assert people.sql("SELECT r.ctid, r.xmin::text FROM decisioning._record r WHERE r.record_key LIKE '3__-_' ORDER BY 1") == untouched
    partial = persons(people)
    assert customer(people, "0-3") == customer(people, "0-1")
    assert customer(people, "1-2") != customer(people, "1-1")
    connection.execute("CALL decisioning.resolve_all(true)")
    full = persons(people)
    different = len(pairs(partial) ^ pairs(full))
    assert different <= len(pairs(full)) / 50, (partial ^ full)
    notices.clear()
    connection.execute("CALL decisioning.resolve_all()")
    assert "nothing changed" in notices
    # Records that were gone are back, with their ids.
    insert(connection, [(key, fields) for key, fields in rows(range(5)) if key in ("2-2", "4-1")])
    connection.execute("CALL decisioning.resolve_all()")
    assert customer(people, "2-2") == customer(people, "2-1")
    assert people.sql("SELECT alias FROM decisioning._alias GROUP BY alias HAVING count(*) > 1") == []


def test_a_merge_by_similarity_names_the_records(people):
    connection = people.connect()
    insert(connection, [("a", {**person(800), "given": None, "born": None}), ("b", {**person(800), "mail": None, "street": None, "zip": None, "city": None})])
    connection.execute("CALL decisioning.resolve_all()")
    assert customer(people, "a") != customer(people, "b")
    connection.execute("UPDATE people SET given = %s, born = %s WHERE id = 'a'", [person(800)["given"], person(800)["born"]])
    connection.execute("CALL decisioning.resolve_all()")
    assert customer(people, "a") == customer(people, "b")
    [(event, evidence)] = people.sql("SELECT event, evidence FROM decisioning.identity_events")
    assert event == "merged" and evidence["records"] == ["crm:a", "crm:b"] and evidence["weight"] > 0


def test_a_new_configuration_makes_the_next_run_a_full_one(people):
    connection = people.connect()
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("SELECT decisioning.add_match_rule('email', enabled => false)")
    connection.execute("CALL decisioning.resolve_all()")
    assert any("comparing and joining records" in notice for notice in notices)
    notices.clear()
    trained = connection.execute("SELECT * FROM decisioning.train_matching()").fetchall()
    assert {row[0] for row in trained} >= {"given_name", "family_name", "date_of_birth"}
    connection.execute("CALL decisioning.resolve_all()")
    assert any("comparing and joining records" in notice for notice in notices)


def test_only_changes_are_read_by_their_time(people):
    connection = people.connect()
    connection.execute("SELECT decisioning.remove_source('crm')")
    connection.execute(
        "SELECT decisioning.add_source('crm', 'people', 'id', %s::jsonb, changed_at => 'changed', lookback => '0')", [FIELDS]
    )
    connection.execute("UPDATE people SET changed = '2026-01-01'")
    connection.execute("CALL decisioning.resolve_all()")
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("UPDATE people SET changed = '2026-01-02', given = 'Zacharias' WHERE id = '5-1'")
    connection.execute("DELETE FROM people WHERE id = '6-1'")
    connection.execute("UPDATE people SET changed = '2025-01-01', given = 'Unseen' WHERE id = '7-1'")
    connection.execute("CALL decisioning.resolve_all()")
    assert any(notice.startswith("1 records are new or changed, 0 are gone") for notice in notices), notices
    assert people.sql("SELECT count(*) FROM decisioning.identity_map WHERE record_key = '6-1'") == [(1,)]
    assert people.sql(
        "SELECT f.fields ->> 'given_name', f.changed_at = '2026-01-02' FROM decisioning._record r"
        " JOIN decisioning._record_field f USING (record_number) WHERE r.record_key = '5-1'"
    ) == [("Zacharias", True)]
    # A full run reads everything, and finds out what is gone.
    connection.execute("CALL decisioning.resolve_all(true)")
    assert people.sql("SELECT count(*) FROM decisioning.identity_map WHERE record_key = '6-1'") == [(0,)]
    assert people.sql("SELECT count(*) FROM decisioning._record_field WHERE fields ->> 'given_name' = 'Unseen'") == [(1,)]


def test_rows_of_one_key_are_one_record(people):
    connection = people.connect()
    insert(connection, [("two", {**person(700), "mail": "first@example.com"}), ("two", {**person(700), "mail": "second@example.com"})])
    connection.execute("CALL decisioning.resolve_all()")
    fields = "SELECT f.fields -> 'email', f.fields -> 'city' FROM decisioning._record r JOIN decisioning._record_field f USING (record_number) WHERE r.record_key = 'two'"
    assert people.sql(fields) == [(["first@example.com", "second@example.com"], person(700)["city"])]
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("CALL decisioning.resolve_all()")
    assert "nothing changed" in notices
    assert people.sql(fields) == [(["first@example.com", "second@example.com"], person(700)["city"])]
    assert people.sql(RESOLVE, ['{"email": "second@example.com"}']) == [(customer(people, "two"),)]


def test_somebody_is_recognised_by_what_describes_them(people):
    known = person(10)
    told = document({**known, "mail": None, "family": typo(known["family"], random.Random(1))})
    reader = people.connect(options="-c default_transaction_read_only=on")
    assert reader.execute(RESOLVE, [told]).fetchone()[0] == customer(people, "10-1")
    # A mailbox that is new is remembered for the person.
    assert people.sql(RESOLVE, [document({**known, "mail": "new@example.com"})]) == [(customer(people, "10-1"),)]
    assert people.sql(RESOLVE, ['{"email": "new@example.com"}']) == [(customer(people, "10-1"),)]


def test_who_was_said_to_be_two_is_recognised_as_the_right_one(people):
    """Two records that are alike but for the birth date, and that somebody said are of two people."""
    connection = people.connect()
    of = dict(rows())
    n = next(n for n in range(600) if n % 4 and of[f"{n}-1"]["born"] != of[f"{n}-2"]["born"] and customer(people, f"{n}-1") == customer(people, f"{n}-2"))
    connection.execute("SELECT decisioning.forbid_match('crm', %s, 'crm', %s, 'twins')", [f"{n}-1", f"{n}-2"])
    connection.execute("CALL decisioning.resolve_all()")
    assert customer(people, f"{n}-1") != customer(people, f"{n}-2")
    reader = people.connect(options="-c default_transaction_read_only=on")
    for record in (f"{n}-1", f"{n}-2"):
        shown = document({**of[record], "mail": None})
        assert reader.execute(RESOLVE, [shown]).fetchone()[0] == customer(people, record)


def test_somebody_new_keeps_the_id(people):
    new = document({**person(5000), "mail": None})
    first = people.sql(RESOLVE, [new])
    assert first[0][0].startswith("online:")
    assert people.sql(RESOLVE, [new]) == first
    rng = random.Random(3)
    again = document({**person(5000), "mail": "later@example.com", "street": None, "given": typo(person(5000)["given"], rng)})
    assert people.sql(RESOLVE, [again]) == first
    people.connect().execute("CALL decisioning.resolve_all()")
    assert people.sql(RESOLVE, ['{"email": "later@example.com"}']) == first
    # What tells too little tells nothing.
    assert people.sql(RESOLVE, ['{"given_name": "Anna"}']) == [(None,)]


def test_a_visitor_becomes_known(people):
    visitor = people.sql(RESOLVE, ['{"device_id": "cookie"}'])
    assert visitor[0][0].startswith("online:")
    known = people.sql(RESOLVE, ['{"device_id": "cookie", "email": "person20@example.com"}'])
    assert known == [(customer(people, "20-1"),)]
    people.connect().execute("CALL decisioning.resolve_all()")
    assert people.sql(RESOLVE, ['{"device_id": "cookie"}']) == known
    assert people.sql("SELECT event, customer_id FROM decisioning.identity_events WHERE from_customer_id = %s AND event <> 'conflict'", [visitor[0][0]]) == [
        ("merged", known[0][0])
    ]


def test_sessions_that_are_shown_the_same_new_person_agree(people):
    one, other = dict(person(6000), mail=None), dict(person(6000), mail=None, street=None)
    first, second = people.connect(autocommit=False), people.connect(autocommit=False)
    answer = first.execute(RESOLVE, [document(one)]).fetchone()[0]
    waiting = Background(lambda: second.execute(RESOLVE, [document(other)]).fetchone()[0])
    wait_until_blocked(people, second)
    first.commit()
    assert waiting.result() == answer
    second.commit()


def test_many_sessions_and_new_people(people):
    answers = [{} for _ in range(4)]

    def visit(of_one, seed):
        rng = random.Random(seed)
        with people.cluster.connect(people.name) as connection:
            for n in rng.sample(range(7000, 7040), 40):
                fields = {**person(n), "mail": None}
                if rng.random() < 0.5:
                    fields = {column: value and value.upper() for column, value in fields.items()}
                of_one[n] = connection.execute(RESOLVE, [document(fields)]).fetchone()[0]

    threads = [Background(lambda of_one=of_one, seed=seed: visit(of_one, seed)) for seed, of_one in enumerate(answers)]
    people.connect().execute("CALL decisioning.resolve_all()")
    for thread in threads:
        thread.result()
    different = {n: {of_one[n] for of_one in answers} for n in answers[0]}
    assert {n: ids for n, ids in different.items() if len(ids) > 1} == {}
    assert len(set(answers[0].values())) == 40


def test_a_cancelled_run_is_not_felt(people):
    connection = people.connect()
    insert(connection, rows(range(1000, 9000)))
    before = persons(people)
    connection.autocommit = False
    for delay in (0.1, 0.4, 0.8):
        # A fast machine may be through before: then it was too late, and is tried again.
        while True:
            running = Background(lambda: connection.execute("CALL decisioning.resolve_all(true)"))
            threading.Event().wait(delay)
            connection.cancel()
            try:
                running.result()
            except psycopg.errors.QueryCanceled:
                break
            finally:
                connection.rollback()
            delay /= 2
        assert persons(people) == before
    connection.autocommit = True
    connection.execute("CALL decisioning.resolve_all()")
    assert people.sql("SELECT count(DISTINCT record_key) FROM decisioning.identity_map") == people.sql("SELECT count(DISTINCT id) FROM people")


@pytest.mark.parametrize(
    "odd",
    [
        "SELECT n::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM generate_series(1, 2000) n",
        "SELECT n::text, 'Anna', 'Berg', NULL, '1980-01-01', 'Oak Street 1', 'Riverton', '10000' FROM generate_series(1, 20000) n",
        "SELECT n::text, 'Anna', 'Name' || n, NULL, NULL, NULL, 'Riverton', NULL FROM generate_series(1, 50000) n",
        "SELECT n::text, repeat('x', 10000), repeat('é', 5000), repeat('y', 10000) || '@example.com', '9999-12-31', repeat('z', 10000),"
        " 'ירושלים', '١٢٣٤٥' FROM generate_series(1, 200) n",
        "SELECT n::text, U&'\\+01F600' || n, U&'e\\0301' || n % 7, U&'\\200F' || n || '@exämple.com', '31.02.1999', '😀', '', ' ' FROM generate_series(1, 2000) n",
    ],
    ids=["nulls", "all alike", "one block", "long", "scripts"],
)
def test_odd_descriptions(db, odd):
    connection = db.connect()
    connection.execute(f"CREATE TABLE people (id, {', '.join(COLUMNS)}) AS {odd}")
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', %s::jsonb)", [FIELDS])
    connection.execute("CALL decisioning.resolve_all()")
    expected = db.sql("SELECT count(*) FROM people")
    assert db.sql("SELECT count(*) FROM decisioning.identity_map") == expected
    connection.execute("DELETE FROM people WHERE id = '1'")
    connection.execute("INSERT INTO people SELECT 'x', * FROM (SELECT " + ", ".join(COLUMNS) + " FROM people LIMIT 1) p")
    connection.execute("CALL decisioning.resolve_all()")
    assert db.sql("SELECT count(*) FROM decisioning.identity_map") == expected
    assert db.sql("SELECT record_key FROM decisioning.identity_map WHERE record_key IN ('1', 'x')") == [("x",)]
