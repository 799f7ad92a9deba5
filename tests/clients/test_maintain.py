"""maintain: a step that fails does not keep the others."""

import psycopg
import pytest

import shop
from test_identity import Background, wait_until_blocked

LATER = "2026-06-03 10:00+00"


def create(db):
    """Campaigns c and d over relations of their own, with decisions that nothing has learned from, and a clock that is later."""
    connection = db.connect()
    shop.create(connection)
    connection.execute("CREATE TABLE public.members AS SELECT * FROM public.customers")
    connection.execute("CREATE TABLE public.visits AS SELECT * FROM public.orders")
    connection.execute("SELECT decisioning.create_campaign('d', 'public.members', 'id')")
    connection.execute("""SELECT decisioning.add_action_grid('d', '{"channel": ["email", "sms"]}')""")
    connection.execute("SELECT decisioning.approve_action('d', action) FROM decisioning.actions WHERE campaign = 'd'")
    connection.execute("SELECT decisioning.add_goal('visit', 'conversion')")
    connection.execute("SELECT decisioning.add_campaign_goal('d', 'visit', attribution_window => '1 day')")
    for goal, relation in (("buy", "orders"), ("visit", "visits")):
        connection.execute(
            f"SELECT decisioning.add_outcome_source('{goal}', 'public.{relation}', 'customer', 'at', 'margin', 'id')"
        )
    connection.execute("SELECT decisioning.start_campaign('d')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("CALL decisioning.decide_all('d')")
    return shop.session(db, now=LATER)


def maintain(connection):
    """Rows of maintain, and its warnings with their hints."""
    warnings = {}

    def note(notice):
        if notice.severity == "WARNING":
            warnings[notice.message_primary] = notice.message_hint

    connection.add_notice_handler(note)
    rows = connection.execute("SELECT campaign, step, error FROM decisioning.maintain()").fetchall()
    connection.remove_notice_handler(note)
    return rows, warnings


def learned(db):
    return dict(db.sql("SELECT campaign, decisions FROM decisioning.models WHERE current"))


def health(db, campaign):
    return db.sql(
        "SELECT finding FROM decisioning.campaign_health WHERE campaign = %s AND topic = 'relations' AND status = 'bad'", [campaign]
    )


def test_nothing_fails(db):
    connection = create(db)
    assert maintain(connection) == ([], {})
    assert learned(db) == {"c": 2000, "d": 2000}
    assert not health(db, "c") and not health(db, "d")


def test_a_campaign_without_its_relation_does_not_keep_the_others(db):
    connection = create(db)
    connection.execute("ALTER TABLE public.customers RENAME TO moved")
    rows, warnings = maintain(connection)
    error = "relation public.customers does not exist"
    assert ("c", "learning", error) in rows and {row[0] for row in rows} == {"c"}
    assert warnings[f'learning of campaign "c": {error}']
    assert learned(db) == {"c": 0, "d": 2000}
    assert health(db, "c") == [("public.customers does not exist",)] and not health(db, "d")
    # Nothing is lost.
    connection.execute("ALTER TABLE public.moved RENAME TO customers")
    assert maintain(connection) == ([], {})
    assert learned(db) == {"c": 2000, "d": 2000}
    assert not health(db, "c")


@pytest.mark.parametrize(
    "change",
    ["RENAME TO moved", "ALTER at TYPE text", "ADD COLUMN x int, ALTER margin TYPE text USING 'much'"],
    ids=["relation", "column", "value"],
)
def test_a_source_that_cannot_be_read_does_not_keep_other_campaigns(db, change):
    """Errors that we raise, and those of the server in the middle of reading, which leave half of a source behind."""
    connection = create(db)
    for relation in ("orders", "visits"):
        connection.execute(f"INSERT INTO public.{relation} SELECT n, 'c-' || n, '2026-06-01 12:00+00', 5 FROM generate_series(1, 100) n")
    connection.execute(f"ALTER TABLE public.orders {change}")
    rows, _ = maintain(connection)
    assert [row[:2] for row in rows] == [(None, 'outcome source "buy from public.orders"'), ("c", "learning")]
    assert learned(db) == {"c": 0, "d": 2000}
    assert db.sql("SELECT goal, count(*) FROM decisioning.outcomes GROUP BY 1") == [("visit", 100)]


def test_a_cancel_is_no_failed_step(db):
    connection = create(db)
    connection.execute("CREATE VIEW public.slow AS SELECT o.* FROM public.orders o, LATERAL pg_sleep(60)")
    connection.execute("INSERT INTO public.orders VALUES ('o-1', 'c-1', '2026-06-01 12:00+00', 5)")
    connection.execute("UPDATE decisioning.outcome_sources SET source_relation = 'slow' WHERE goal = 'buy'")
    connection.execute("SET statement_timeout = '1s'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT decisioning.maintain()")
    assert learned(db) == {"c": 0, "d": 0}


def test_what_was_learned_is_settled_or_not_learned(db):
    """Learning takes out of the inbox what settling needs."""
    connection = create(db)
    connection = shop.session(db, now="2026-06-02 10:00+00")
    connection.execute("SELECT decisioning.set_budget('c', 1000000, unit => 'sends')")
    connection.execute("CALL decisioning.decide_all('c')")
    connection = shop.session(db, now="2026-06-05 10:00+00")
    connection.execute(
        """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
           CREATE TRIGGER refuse BEFORE UPDATE ON decisioning._reservation EXECUTE FUNCTION public.refuse()"""
    )
    with pytest.raises(psycopg.errors.RaiseException):
        connection.execute("SELECT decisioning.maintain()")
    assert learned(db) == {"c": 0, "d": 0}
    connection.execute("DROP TRIGGER refuse ON decisioning._reservation")
    assert maintain(connection) == ([], {})
    assert learned(db)["c"] == 4000
    assert db.sql("SELECT bool_and(closed) FROM decisioning._reservation") == [(True,)]


def test_stop_rules_of_one_campaign_do_not_keep_those_of_another(db):
    connection = create(db)
    connection.execute("SELECT decisioning.add_goal('complaint', 'harm')")
    for campaign in ("c", "d"):
        connection.execute("SELECT decisioning.add_campaign_goal(%s, 'complaint')", [campaign])
        connection.execute("SELECT decisioning.add_stop_rule(%s, 'complaint', response => 'pause')", [campaign])
    connection = shop.session(db, now="2026-06-01 11:00+00")
    connection.execute(
        """SELECT decisioning.record_outcomes('complaint', array_agg(a.campaign || a.customer_id), array_agg(a.customer_id))
           FROM decisioning.assignments a WHERE a.treatment_group = 'optimise'"""
    )
    connection = shop.session(db, now=LATER)
    connection.execute(
        """CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON decisioning.stop_alerts
           FOR EACH ROW WHEN (NEW.campaign = 'c') EXECUTE FUNCTION public.refuse()"""
    )
    rows, _ = maintain(connection)
    assert rows == [("c", "stop rules", "not now")]
    assert db.sql("SELECT campaign, status FROM decisioning.campaigns ORDER BY 1") == [("c", "active"), ("d", "paused")]
    assert db.sql("SELECT campaign, paused FROM decisioning.stop_alerts") == [("d", True)]


def test_nobody_waits_for_a_partition_that_is_kept_from_being_made(db):
    """Whoever reads the log and stays keeps a new partition from being attached; deciders and other readers would queue behind it."""
    connection = create(db)
    (bought,) = connection.execute("SELECT customer_id FROM decisioning.decisions WHERE campaign = 'c' LIMIT 1").fetchone()
    reader = db.connect(autocommit=False)
    reader.execute("SELECT count(*) FROM decisioning.decisions")
    later = shop.session(db, now="2026-07-03 10:00+00")
    assert maintain(later) == ([], {})
    assert learned(db) == {"c": 2000, "d": 2000}
    much_later = shop.session(db, now="2027-01-03 10:00+00")
    rows, warnings = maintain(much_later)
    assert rows == [] and list(warnings) == ["the log has no partition for this month yet"]
    assert "idle" in warnings["the log has no partition for this month yet"]
    connection.execute("SET lock_timeout = '2s'")
    assert connection.execute("SELECT customer_id FROM decisioning.decide(%s, 'c')", [bought]).fetchone() == (bought,)
    reader.rollback()
    assert maintain(much_later) == ([], {})
    assert db.sql("SELECT count(*) FROM pg_class WHERE relname IN ('decisions_2027_01', 'decisions_2027_04')") == [(2,)]


def test_maintain_and_forgetting_do_not_wait_for_each_other(db):
    """Forgetting locks learners first, and then the events of a source that maintain reads before it learns."""
    connection = create(db)
    connection.execute("INSERT INTO public.orders SELECT n, 'c-' || n, '2026-06-01 12:00+00', 5 FROM generate_series(1, 100) n")
    connection.execute("SELECT decisioning.maintain()")
    connection.execute("UPDATE public.orders SET margin = 6")
    gate = shop.session(db, now=LATER, autocommit=False)
    gate.execute("LOCK TABLE public.visits")
    maintainer = shop.session(db, now=LATER)
    maintaining = Background(lambda: maintainer.execute("SELECT * FROM decisioning.maintain()").fetchall())
    wait_until_blocked(db, maintainer)
    forgetter = shop.session(db, now=LATER)
    forgetting = Background(lambda: forgetter.execute("SELECT * FROM decisioning.forget_customer('c-7')").fetchall())
    wait_until_blocked(db, forgetter)
    gate.rollback()
    assert maintaining.result() == []
    assert forgetting.result()


def test_all_tables_can_be_published(db):
    connection = create(db)
    connection.execute("SELECT decisioning.add_source('people', 'public.customers', 'id', '{\"kind\": \"text\"}')")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    connection.execute("CALL decisioning.dispatch_all()")
    assert maintain(connection) == ([], {})
    connection.execute("DELETE FROM public.customers WHERE id = 'c-9'")
    connection.execute("CALL decisioning.resolve_all()")
    connection.execute("SELECT decisioning.forget_customer('c-9')")
    assert db.sql("SELECT count(*) FROM decisioning.forgotten")[0][0] > 0
