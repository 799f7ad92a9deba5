"""Golden records, households and corrections: what survives, what stays, and what decisions make of it."""

import psycopg
import pytest

import shop
from test_follow import DAY, Background, wait_until_blocked

PEOPLE = """
    CREATE TABLE crm (id text PRIMARY KEY, login text, given text, family text, mail text, born text, street text, town text, zip text, changed timestamptz);
    INSERT INTO crm VALUES
        ('1', 'anna', 'Anna', 'Weber',  'anna@example.com',  '1980-05-02', '12 Main Street', 'Leeds', 'LS1 4AB', '2026-01-01'),
        ('2', 'bernd', 'Bernd', 'Weber', 'bernd@example.com', '1979-11-30', '12 Main St.',    NULL,    'ls14ab',  '2026-01-01'),
        ('3', 'clara', 'Clara', 'Fuchs', 'clara@example.com', 'unknown',    '12 Main Street', 'Leeds', 'LS1 4AB', '2026-01-01');
    CREATE TABLE shop (id text PRIMARY KEY, login text, name text, mail text, phone text, street text, town text, zip text, note text, changed timestamptz);
    INSERT INTO shop VALUES
        ('a', 'anna', 'anna weber', 'ANNA@example.com', '+44 20 7946 0000', '1 Side Lane', 'York', 'YO1 7HH', 'likes tea', '2026-03-01'),
        ('b', 'dora', NULL, 'dora@example.com', NULL, NULL, NULL, NULL, NULL, '2026-03-01');
    SELECT decisioning.add_source('crm', 'crm', 'id', '{"login": "external_id", "given": "given_name", "family": "family_name", "mail": "email", "born": "date_of_birth",
           "street": "street", "town": "city", "zip": "postcode"}', changed_at => 'changed');
    SELECT decisioning.add_source('shop', 'shop', 'id', '{"login": "external_id", "name": "full_name", "mail": "email", "phone": "phone", "street": "street", "town": "city",
           "zip": "postcode", "note": "text"}', changed_at => 'changed');
"""

ROW = """SELECT given_name, family_name, date_of_birth::text, email, phone, street, city, postcode, extra, records
         FROM decisioning.golden_records WHERE customer_id = %s"""


@pytest.fixture
def people(db):
    connection = db.connect()
    connection.execute(PEOPLE)
    connection.execute("CALL decisioning.resolve_all()")
    assert db.sql("SELECT count(*) FROM decisioning.golden_records") == [(0,)], "nobody has asked for them"
    connection.execute("CALL decisioning.refresh_golden_records()")
    return db


def resolve(db, full=False):
    db.connect().execute("CALL decisioning.resolve_all(%s)", [full])


def identity(db):
    return dict(db.sql("SELECT source || ':' || record_key, customer_id FROM decisioning.identity_map"))


def households(db):
    found = {}
    for household, customer in db.sql("SELECT household_id, customer_id FROM decisioning.households ORDER BY 2"):
        found.setdefault(household, []).append(customer)
    return sorted(found.values())


def test_what_survives_by_itself(people):
    assert people.sql(ROW, ["1"]) == [
        ("Anna", "Weber", "1980-05-02", "ANNA@example.com", "+44 20 7946 0000", "1 Side Lane", "York", "YO1 7HH", {"text": "likes tea"}, 2)
    ]
    assert people.sql(ROW, ["3"])[0][2] is None, "what is no date does not survive"
    assert people.sql("SELECT count(*) FROM decisioning.golden_records") == [(4,)]


def test_rules_of_the_user(people):
    rule = "SELECT decisioning.add_survivorship_rule(%s, %s, sources => %s, expression => %s)"
    people.sql(rule, ["email", "source_priority", ["crm"], None])
    people.sql(rule, ["address", "expression", [], "CASE source WHEN 'crm' THEN 1 END"])
    people.sql(rule, ["given_name", "longest", [], None])
    before = people.sql("SELECT customer_id, updated_at FROM decisioning.golden_records WHERE customer_id <> '1' ORDER BY 1")
    people.connect().execute("CALL decisioning.refresh_golden_records()")
    assert people.sql(ROW, ["1"])[0][3:8] == ("anna@example.com", "+44 20 7946 0000", "12 Main Street", "Leeds", "LS1 4AB")
    assert people.sql("SELECT customer_id, updated_at FROM decisioning.golden_records WHERE customer_id <> '1' ORDER BY 1") == before
    people.sql("SELECT decisioning.remove_survivorship_rule('email')")
    people.sql(rule, ["email", "expression", [], "-length(value) + 100 * (record_key = 'a')::int + 0 * frequency"])
    people.connect().execute("CALL decisioning.refresh_golden_records()")
    assert people.sql(ROW, ["1"])[0][3] == "ANNA@example.com"
    assert people.sql("SELECT count(*) FROM decisioning.epochs WHERE relation = 'survivorship_rules'") == [(5,)]
    for wrong, error in [
        (["street", "longest", [], None], "survives with the rest of its address"),
        (["email", "newest", [], None], "unknown survivorship rule"),
        (["email", "expression", [], None], "needs an expression"),
        (["email", "longest", [], "1"], "only rule expression"),
        (["email", "expression", [], "1; DELETE FROM crm"], "syntax error|one SQL expression"),
        (["email", "expression", [], "nothing"], "does not exist"),
        (["email", "source_priority", ["erp"], None], "source \"erp\" does not exist"),
        (["e-mail", "longest", [], None], "e-mail"),
    ]:
        with pytest.raises(psycopg.Error, match=error):
            people.sql(rule, wrong)


def test_an_expression_runs_as_who_asks(people):
    connection = people.connect()
    connection.execute("CREATE TABLE secrets (n int)")
    connection.execute("SELECT decisioning.add_survivorship_rule('email', 'expression', expression => '(SELECT count(*) FROM public.secrets)')")
    role = people.create_role("keeper")
    connection.execute("SELECT decisioning.grant_rights('keeper', 'manager')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="secrets"):
        people.connect(role).execute("CALL decisioning.refresh_golden_records()")
    connection.execute("GRANT SELECT ON secrets TO keeper")
    people.connect(role).execute("CALL decisioning.refresh_golden_records()")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        people.connect(role).execute("SELECT * FROM decisioning.golden_records")
    connection.execute("SELECT decisioning.grant_rights('keeper', 'reader')")
    assert people.connect(role).execute("SELECT count(*) FROM decisioning.golden_records").fetchone() == (4,)
    connection.execute("DROP OWNED BY keeper")


@pytest.mark.parametrize("full", [False, True], ids=["changes", "full"])
def test_runs_keep_them_up(people, full):
    before = people.sql("SELECT customer_id, updated_at FROM decisioning.golden_records WHERE customer_id IN ('2', '3') ORDER BY 1")
    connection = people.connect()
    connection.execute("UPDATE shop SET note = 'likes coffee', changed = '2026-04-01' WHERE id = 'a'")
    connection.execute("INSERT INTO crm VALUES ('4', 'dora', 'Dora', 'Klein', 'dora@example.com', NULL, NULL, NULL, NULL, '2026-04-01')")
    resolve(people, full)
    assert people.sql(ROW, ["1"])[0][8] == {"text": "likes coffee"}
    assert people.sql(ROW, ["4"])[0][:4] == ("Dora", "Klein", None, "dora@example.com")
    assert people.sql("SELECT customer_id FROM decisioning.golden_records ORDER BY 1") == [("1",), ("2",), ("3",), ("4",)]
    connection.execute("UPDATE shop SET login = 'x', mail = 'x@example.com', name = 'Xaver Y', phone = NULL, changed = '2026-04-02' WHERE id = 'a'")
    connection.execute("DELETE FROM crm WHERE id = '4'")
    resolve(people, True)
    assert people.sql(ROW, ["1"])[0][3:6] == ("anna@example.com", None, "12 Main Street")
    assert "shop:a" in identity(people).values() and people.sql(ROW, ["shop:a"])[0][3] == "x@example.com"
    assert people.sql("SELECT customer_id, updated_at FROM decisioning.golden_records WHERE customer_id IN ('2', '3') ORDER BY 1") == before
    # Kept up or made anew, it is the same.
    rows = "SELECT * FROM decisioning.golden_records ORDER BY 1"
    kept = people.sql(rows)
    connection.execute("CALL decisioning.refresh_golden_records()")
    assert people.sql(rows) == kept


def test_households(people):
    connection = people.connect()
    connection.execute("SELECT decisioning.add_survivorship_rule('address', 'source_priority', sources => '{crm}')")
    connection.execute("CALL decisioning.refresh_golden_records()")
    assert households(people) == [["1", "2"], ["3"]]
    (home,) = people.sql("SELECT DISTINCT household_id FROM decisioning.households WHERE customer_id IN ('1', '2')")[0]
    assert people.sql("SELECT household_id FROM decisioning.golden_records WHERE customer_id = '2'") == [(home,)]
    # One moves out and another in: the household stays.
    connection.execute("UPDATE crm SET street = '7 Far Road', changed = '2026-04-01' WHERE id = '2'")
    connection.execute("INSERT INTO crm VALUES ('5', NULL, 'Emil', 'WEBER', 'emil@example.com', NULL, '12, main street', 'Leeds', 'LS1 4AB', '2026-04-01')")
    resolve(people)
    assert households(people) == [["1", "5"], ["2"], ["3"]]
    assert people.sql("SELECT household_id FROM decisioning.households WHERE customer_id = '5'") == [(home,)]
    # All move together: it goes with them.
    connection.execute("UPDATE crm SET street = '9 Hill', town = 'Hull', zip = 'HU1', changed = '2026-05-01' WHERE id IN ('1', '5')")
    resolve(people)
    assert households(people) == [["1", "5"], ["2"], ["3"]]
    assert people.sql("SELECT DISTINCT household_id FROM decisioning.golden_records WHERE customer_id IN ('1', '5')") == [(home,)]
    # A crowd is none.
    connection.execute("INSERT INTO crm SELECT 'x' || n, NULL, 'P' || n, 'Weber', 'p' || n || '@example.com', NULL, '9 Hill', 'Hull', 'HU1', '2026-06-01' FROM generate_series(1, 19) n")
    resolve(people)
    assert households(people) == [["2"], ["3"]]
    assert people.sql("SELECT count(*) FROM decisioning.golden_records WHERE household_id = %s", [home]) == [(0,)]
    connection.execute("UPDATE crm SET street = '10 Hill', changed = '2026-07-01' WHERE id LIKE 'x%%'")
    resolve(people)
    assert sorted(map(len, households(people))) == [1, 1, 2, 19]


def test_a_campaign_over_golden_records(people, empty_db, tmp_path):
    """Its customers are persons, its household that of identity, and a restored database goes on as before."""
    connection = people.connect()
    connection.execute("SELECT decisioning.add_survivorship_rule('address', 'source_priority', sources => '{crm}')")
    connection.execute(
        "INSERT INTO crm SELECT 'n' || n, NULL, 'Given' || n, 'Family' || n / 2, 'n' || n || '@example.com', NULL, n / 2 || ' Long Road', 'Hull', 'HU2', '2026-02-01' FROM generate_series(2, 201) n"
    )
    resolve(people)
    connection.execute("CALL decisioning.refresh_golden_records()")
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [DAY.format(1)])
    connection.execute(
        """SELECT decisioning.create_campaign('c', 'decisioning.golden_records', 'customer_id', features => '{city, records}',
               household_column => 'household_id', unit => 'household', holdout_share => 0.3, explore_share => 0.3)"""
    )
    connection.execute("""SELECT decisioning.add_action_grid('c', '{"offer": ["a", "b", "c", "d"]}')""")
    connection.execute("SELECT decisioning.approve_action('c', action) FROM decisioning.actions")
    connection.execute("SELECT decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy'), decisioning.start_campaign('c')")
    role = people.create_role("operator")
    connection.execute("SELECT decisioning.grant_rights('operator', 'operator'), decisioning.grant_rights('operator', 'reader')")
    operator = people.connect(role)
    operator.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [DAY.format(1)])
    operator.execute("CALL decisioning.decide_all('c')")
    assert operator.execute("SELECT customer_id FROM decisioning.decide('shop:a', 'c')").fetchone() == ("1",)
    of_households = """SELECT g.household_id, count(DISTINCT d.treatment_group), count(DISTINCT d.action) FILTER (WHERE d.action <> 'no_send'), count(*)
                       FROM decisioning.decisions d JOIN decisioning.golden_records g USING (customer_id) WHERE g.household_id IS NOT NULL GROUP BY 1"""
    rows = people.sql(of_households)
    assert len(rows) == 102 and sum(row[3] == 2 for row in rows) == 101
    assert all(row[1] == 1 and row[2] <= 1 for row in rows), "one group and one offer for a household"
    assert len(people.sql("SELECT DISTINCT treatment_group FROM decisioning.decisions")) == 3
    assert people.sql("SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r") == [(True,)]
    dump = tmp_path / "dump"
    people.pg_tool("pg_dump", "--format=directory", "--no-acl", "--file", dump)
    empty_db.pg_tool("pg_restore", "--jobs=4", "--exit-on-error", "--dbname", empty_db.name, dump)
    for relation in ["golden_records", "_household_member", "survivorship_rules"]:
        everything = f"SELECT * FROM decisioning.{relation} ORDER BY 1"
        assert people.sql(everything) == empty_db.sql(everything) and people.sql(everything)
    for each in (people, empty_db):
        session = shop.session(each, now=DAY.format(2))
        session.execute("CALL decisioning.decide_all('c')")
    decisions = "SELECT decision_id, customer_id, treatment_group, action, propensity FROM decisioning.decisions ORDER BY 1"
    assert people.sql(decisions) == empty_db.sql(decisions)
    connection.execute("DROP OWNED BY operator")


# --- Corrections ------------------------------------------------------------------------------------------------------------


def test_confirmed_and_forbidden_pairs(people):
    confirm = "SELECT decisioning.confirm_match(%s, %s, %s, %s, 'they said so')"
    number = people.sql(confirm, ["crm", "3", "shop", "b"])[0][0]
    people.sql("SELECT decisioning.forbid_match('shop', 'a', 'crm', '1')")
    assert people.sql("SELECT source_a, key_a, source_b, key_b, same_person FROM decisioning.match_corrections ORDER BY correction") == [
        ("crm", "3", "shop", "b", True),
        ("crm", "1", "shop", "a", False),
    ]
    resolve(people)
    assert identity(people) == {"crm:1": "1", "crm:2": "2", "crm:3": "3", "shop:a": "shop:a", "shop:b": "3"}
    resolve(people, True)
    assert identity(people)["shop:b"] == "3" and identity(people)["shop:a"] == "shop:a"
    assert people.sql("SELECT decisioning.undo_correction(%s)", [number]) == [(1,)]
    people.sql(confirm, ["crm", "1", "shop", "a"])
    assert people.sql("SELECT count(*) FROM decisioning.match_corrections") == [(1,)], "the last word counts"
    resolve(people)
    assert identity(people) == {"crm:1": "1", "crm:2": "2", "crm:3": "3", "shop:a": "1", "shop:b": "shop:b"}
    with pytest.raises(psycopg.errors.UndefinedObject, match='record "9" of source "crm" does not exist'):
        people.sql(confirm, ["crm", "9", "shop", "b"])
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        people.sql(confirm, ["crm", "1", "crm", "1"])
    with pytest.raises(psycopg.errors.UndefinedObject):
        people.sql("SELECT decisioning.undo_correction(999)")
    people.sql("INSERT INTO decisioning.match_corrections (source_a, key_a, source_b, key_b, same_person) VALUES ('shop', 'b', 'crm', '2', true)")
    resolve(people)
    assert identity(people)["shop:b"] == "2"


def test_merge_and_split_at_once(people):
    merged = people.sql("SELECT * FROM decisioning.merge_customers('{shop:b, 3, crm:2}', 'same family doctor')")
    assert merged[0][0] == "2"
    assert {identity(people)[record] for record in ("crm:2", "crm:3", "shop:b")} == {"2"}
    assert people.sql("SELECT decisioning.resolve_identity('{\"email\": \"dora@example.com\"}')") == [("2",)]
    assert people.sql("SELECT customer_id FROM decisioning.golden_records ORDER BY 1") == [("1",), ("2",)]
    assert people.sql("SELECT event, customer_id, from_customer_id, evidence ->> 'reason' FROM decisioning.identity_events WHERE event = 'merged' ORDER BY 3") == [
        ("merged", "2", "3", "same family doctor"),
        ("merged", "2", "shop:b", "same family doctor"),
    ]
    at_once = identity(people)
    resolve(people)
    assert identity(people) == at_once, "a run sees it the same way"
    split = people.sql("SELECT * FROM decisioning.split_customer('3', '{crm:3, shop:b}', 'two after all')")
    assert split[0][0] == "3"
    assert identity(people) == {"crm:1": "1", "crm:2": "2", "crm:3": "3", "shop:a": "1", "shop:b": "3"}
    at_once = identity(people)
    resolve(people)
    assert identity(people) == at_once
    # The id goes with the record that it names.
    assert people.sql("SELECT customer_id FROM decisioning.split_customer('3', '{crm:3}')") == [("3",)]
    assert identity(people)["shop:b"] == "shop:b"
    resolve(people)
    assert identity(people)["shop:b"] == "shop:b"
    for statement, error in [
        ("SELECT * FROM decisioning.merge_customers('{1}')", "at least two"),
        ("SELECT * FROM decisioning.merge_customers('{1, crm:1}')", "at least two"),
        ("SELECT * FROM decisioning.merge_customers('{1, nobody}')", "has no records"),
        ("SELECT * FROM decisioning.split_customer('1', '{crm:2}')", "no record of customer"),
        ("SELECT * FROM decisioning.split_customer('1', '{crm:1, shop:a}')", "some must stay"),
    ]:
        with pytest.raises(psycopg.Error, match=error):
            people.sql(statement)
    people.sql("SELECT decisioning.undo_correction(c) FROM (SELECT DISTINCT correction AS c FROM decisioning.match_corrections) x")
    resolve(people)
    assert identity(people) == {"crm:1": "1", "crm:2": "2", "crm:3": "3", "shop:a": "1", "shop:b": "shop:b"}


def test_decisions_follow_a_merge_at_once(db):
    connection = db.connect()
    shop.create(connection, customers=20)
    connection.execute("CREATE TABLE people AS SELECT id, id || '@example.com' AS mail FROM public.customers")
    connection.execute("SELECT decisioning.add_source('crm', 'people', 'id', '{\"mail\": \"email\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    decide = "SELECT decision_id, customer_id FROM decisioning.decide(%s, 'c')"
    with shop.session(db, now=DAY.format(1)) as session:
        decision = session.execute(decide, ["c-7"]).fetchone()
    merging = db.connect(autocommit=False)
    assert merging.execute("SELECT customer_id FROM decisioning.merge_customers('{c-7, c-3}')").fetchone() == ("c-3",)
    session = shop.session(db, now=DAY.format(1))
    waiting = Background(lambda: session.execute(decide, ["c-7"]).fetchone())
    assert waiting.result() == decision, "it is decided already"
    other = shop.session(db, now=DAY.format(2))
    waiting = Background(lambda: other.execute(decide, ["c-7"]).fetchone())
    wait_until_blocked(db, other)
    merging.commit()
    assert waiting.result()[1] == "c-3"
    with shop.session(db, now=DAY.format(1)) as session:
        assert session.execute(decide, ["c-3"]).fetchone() == decision
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        frozen = db.connect(autocommit=False)
        frozen.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        frozen.execute("SELECT * FROM decisioning.merge_customers('{c-1, c-2}')")


def test_merged_by_hand_stays_so_whatever_the_limits(db):
    """Two customers of two records each, who have a login each: together they have more logins than a person may have."""
    connection = db.connect()
    connection.execute("CREATE TABLE records AS SELECT * FROM (VALUES ('1', 'x'), ('2', 'x'), ('3', 'y'), ('4', 'y'), ('5', 'z')) AS r(id, login)")
    connection.execute("SELECT decisioning.add_source('crm', 'records', 'id', '{\"login\": \"external_id\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    assert set(identity(db).values()) == {"1", "3", "5"}
    # What was said of two of them, and is not followed yet, is not overwritten.
    db.sql("SELECT decisioning.forbid_match('crm', '3', 'crm', '4')")
    db.sql("SELECT * FROM decisioning.merge_customers('{3, 5}')")
    assert db.sql("SELECT same_person FROM decisioning.match_corrections WHERE key_a = '3' AND key_b = '4'") == [(False,)]
    db.sql("SELECT decisioning.undo_correction(correction) FROM (SELECT DISTINCT correction FROM decisioning.match_corrections) c")
    connection.execute("CALL decisioning.resolve_all(full => true)")
    assert set(identity(db).values()) == {"1", "3", "5"}
    splits = "SELECT count(*) FROM decisioning.identity_events WHERE event = 'split'"
    before = db.sql(splits)
    ((_, one),) = db.sql("SELECT * FROM decisioning.merge_customers('{1, 5}')")
    ((_, two),) = db.sql("SELECT * FROM decisioning.merge_customers('{1, 3}', 'same passport')")
    for full in (False, True, False):
        connection.execute("CALL decisioning.resolve_all(%s)", [full])
        assert set(identity(db).values()) == {"1"}
    assert db.sql(splits) == before
    # The later one is taken back: what was said before holds.
    db.sql("SELECT decisioning.undo_correction(%s)", [two])
    connection.execute("CALL decisioning.resolve_all(full => true)")
    assert identity(db) == {"crm:1": "1", "crm:2": "1", "crm:5": "1", "crm:3": "3", "crm:4": "3"}
    db.sql("SELECT decisioning.undo_correction(%s)", [one])
    connection.execute("CALL decisioning.resolve_all(full => true)")
    assert identity(db)["crm:5"] == "5"
