"""Nothing for PUBLIC; each level can do its part and nothing else; user relations are read with the caller's rights."""

import psycopg
import pytest

import shop

DECIDE = "SELECT action FROM decisioning.decide('c-1', 'c')"


@pytest.fixture
def shop_db(db):
    shop.create(db.connect(), now="2026-06-01 10:00+00")
    return db


def denied(connection, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_public_has_nothing(shop_db):
    nobody = shop_db.connect(role=shop_db.create_role("nobody"))
    denied(nobody, DECIDE)
    granted = shop_db.sql(
        """SELECT count(*) FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           WHERE p.pronamespace = 'decisioning'::regnamespace AND a.grantee = 0"""
    )
    assert granted == [(0,)]


def test_an_operator_decides_and_nothing_else(shop_db):
    role = shop_db.create_role("operator")
    shop_db.sql("SELECT decisioning.grant_rights('operator', 'operator')")
    operator = shop_db.connect(role=role)
    # The customers are the user's: deciding needs the right to read them.
    denied(operator, DECIDE)
    shop_db.sql("GRANT SELECT ON public.customers TO operator")
    assert operator.execute(DECIDE).fetchone()
    assert operator.execute("CALL decisioning.decide_all('c')")
    assert operator.execute("SELECT decisioning.record_outcome('buy', 'e', 'c-1')").fetchone() == ("recorded",)
    for statement in (
        "INSERT INTO decisioning.decisions SELECT * FROM decisioning.decisions LIMIT 1",
        "UPDATE decisioning._assignment SET treatment_group = 'optimise'",
        "UPDATE decisioning.campaigns SET holdout_share = 0",
        "SELECT * FROM decisioning.decisions",
        "SELECT decisioning.approve_action('c', 'x/sms')",
        "SELECT decisioning.pause_campaign('c')",
        "SELECT * FROM decisioning.learn('c')",
        "SELECT decisioning._make_partition(now())",
        "SELECT decisioning.grant_rights('operator', 'manager')",
        "SET decisioning.simulated_now = '2030-01-01'",
    ):
        denied(operator, statement)
    shop_db.sql("REVOKE ALL ON public.customers FROM operator; DROP OWNED BY operator")


def test_a_manager_configures_by_functions(shop_db):
    role = shop_db.create_role("manager")
    shop_db.sql("SELECT decisioning.grant_rights('manager', 'manager'), decisioning.grant_rights('manager', 'reader')")
    manager = shop_db.connect(role=role)
    manager.execute("SELECT decisioning.block_value('phone', '+49 30 555123')")
    assert manager.execute("SELECT identifier, blocked FROM decisioning.blocked_values").fetchall() == [("phone", True)]
    manager.execute("SELECT decisioning.unblock_value('phone', '+49 30 555123')")
    denied(manager, "INSERT INTO decisioning.blocked_values (identifier, value) VALUES ('phone', '+49 30 555123')")
    denied(manager, "UPDATE decisioning.campaigns SET features = '{age}'")
    # What hints name instead.
    shop_db.sql("GRANT SELECT ON public.customers TO manager")
    document = """jsonb_set(decisioning.export_configuration('c'), '{settings,features}', '["age"]')"""
    manager.execute(f"SELECT count(*) FROM decisioning.configure({document})")
    assert manager.execute("SELECT features FROM decisioning.campaigns").fetchall() == [(["age"],)]
    shop_db.sql("REVOKE ALL ON public.customers FROM manager; DROP OWNED BY manager")


def test_row_level_security_of_the_caller_holds(shop_db):
    role = shop_db.create_role("branch")
    shop_db.sql("SELECT decisioning.grant_rights('branch', 'operator')")
    shop_db.sql("GRANT SELECT ON public.customers TO branch")
    shop_db.sql("ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY")
    shop_db.sql("CREATE POLICY own ON public.customers TO branch USING (kind = 'a')")
    branch = shop_db.connect(role=role)
    branch.execute("CALL decisioning.decide_all('c')")
    assert shop_db.sql(
        "SELECT DISTINCT c.kind FROM decisioning.decisions d JOIN public.customers c ON c.id = d.customer_id"
    ) == [("a",)]
    shop_db.sql("DROP POLICY own ON public.customers; DROP OWNED BY branch")


def test_readers_read_and_managers_configure(shop_db):
    reader, manager = shop_db.create_role("reader"), shop_db.create_role("manager")
    for role in (reader, manager):
        shop_db.sql(f"SELECT decisioning.grant_rights('{role}', '{role}')")
    shop_db.sql("GRANT SELECT ON public.customers, public.orders TO reader, manager")
    shop_db.sql("SELECT count(*) FROM decisioning.decide_batch(ARRAY['c-1', 'c-2'], 'c')")
    reading = shop_db.connect(role=reader)
    views = ("open_decisions", "lift", "lift_daily", "group_balance", "campaign_health", "campaign_overview", "models", "coefficients", "identity_map", "match_rules_in_effect")
    for relation in (*views, "decisions", "outcomes", "campaigns", "sources"):
        reading.execute(f"SELECT * FROM decisioning.{relation}")
    assert reading.execute("SELECT count(*) FROM decisioning.preview('c-1', 'c')").fetchone() == (7,)
    assert reading.execute(
        "SELECT bool_and(r.matches) FROM decisioning.decisions d, decisioning.replay(d.decision_id) r"
    ).fetchone() == (True,)
    own = "SELECT estimator FROM decisioning.evaluate_log('{}', reward => 'ordinal', target_probability => 'propensity')"
    assert reading.execute(own.format("decisioning.decisions")).fetchone() == ("ips",)
    shop_db.sql("CREATE TABLE hidden AS SELECT ordinal, propensity FROM decisioning.decisions")
    denied(reading, own.format("hidden"))
    denied(reading, DECIDE)
    managing = shop_db.connect(role=manager)
    managing.execute("SELECT decisioning.add_action('c', 'new', channel => 'push')")
    managing.execute("SELECT * FROM decisioning.learn('c')")
    managing.execute("SELECT decisioning.create_campaign('mine', 'public.customers', 'id')")
    denied(managing, "INSERT INTO decisioning.goals (goal, kind) VALUES ('x', 'harm')")
    assert shop_db.sql("SELECT DISTINCT changed_by FROM decisioning.epochs WHERE after ->> 'action' = 'new'") == [("manager",)]
    shop_db.sql("DROP OWNED BY reader; DROP OWNED BY manager")


def test_a_hostile_search_path_changes_nothing(shop_db):
    role = shop_db.create_role("hostile")
    shop_db.sql("SELECT decisioning.grant_rights('hostile', 'operator')")
    shop_db.sql("GRANT SELECT ON public.customers TO hostile")
    shop_db.sql("CREATE SCHEMA AUTHORIZATION hostile")
    hostile = shop_db.connect(role=role)
    hostile.execute(
        "CREATE FUNCTION hostile.boom(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'as %', current_user; END$$"
    )
    hostile.execute("CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.boom)")
    hostile.execute("SET search_path = hostile, pg_catalog")
    # Reading the user's own table with the caller's operators is the caller's business: it fails as the caller.
    with pytest.raises(psycopg.errors.RaiseException, match="as hostile"):
        hostile.execute("SELECT * FROM decisioning.decide('c-1', 'c')")
    assert hostile.execute("SELECT decisioning.record_outcome('buy', 'e', 'c-1')").fetchone() == ("recorded",)
    shop_db.sql("DROP OWNED BY hostile CASCADE")
