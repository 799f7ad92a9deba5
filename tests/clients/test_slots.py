"""Slots that are over today: sent in the next, once, and open until then."""

import pytest

import shop

ZONE = "Europe/Berlin"


def create(connection, slot, now):
    connection.execute("SELECT set_config('decisioning.simulated_now', %s, false)", [now])
    connection.execute("CREATE TABLE public.customers AS SELECT 'c-' || n AS id, n % 90 AS age FROM generate_series(1, 300) n")
    connection.execute(
        "SELECT decisioning.create_campaign('c', 'public.customers', 'id', time_zone => %s, explore_share => 0.9)", [ZONE]
    )
    connection.execute("SELECT decisioning.add_action('c', 'mail', channel => 'email', slot => %s)", [slot])
    connection.execute("SELECT decisioning.approve_action('c', 'mail')")
    connection.execute("SELECT decisioning.add_goal('buy', 'conversion')")
    connection.execute("SELECT decisioning.add_campaign_goal('c', 'buy')")
    connection.execute("SELECT decisioning.start_campaign('c')")
    connection.execute("CALL decisioning.decide_all('c')")


def open_sends(db, now):
    return shop.session(db, now=now).execute(
        "SELECT count(*) FROM decisioning.open_decisions WHERE send_at IS NOT NULL"
    ).fetchone()[0]


@pytest.mark.parametrize("slot, sent, over", [("morning", "06:00", "09:00"), ("08:30", "06:30", "07:30")])
def test_a_slot_of_tomorrow_is_planned_once_and_stays_open(db, slot, sent, over):
    """On the first of June at one in the afternoon."""
    create(db.connect(), slot, "2026-06-01 11:00+00")
    planned = "SELECT DISTINCT send_at AT TIME ZONE 'UTC' || '', expires_at AT TIME ZONE 'UTC' || '' FROM decisioning.decisions WHERE send_at IS NOT NULL"
    assert db.sql(planned) == [(f"2026-06-02 {sent}:00", f"2026-06-02 {over}:00")]
    sends = open_sends(db, "2026-06-01 11:00+00")
    assert sends > 50
    # Before the slot of the next day: the decision is open still, and whoever was not sent anything is decided for again.
    morning = shop.session(db, now="2026-06-02 05:00+00")
    morning.execute("CALL decisioning.decide_all('c')")
    rolled = "SELECT count(*), count(DISTINCT customer_id) FROM decisioning.decisions WHERE send_at IS NOT NULL"
    (decided, customers) = db.sql(rolled)[0]
    assert decided == customers >= sends
    assert open_sends(db, f"2026-06-02 {sent}:01") == decided
    dispatcher = shop.session(db, now=f"2026-06-02 {sent}:01")
    dispatcher.execute("CALL decisioning.dispatch_all('c')")
    assert db.sql("SELECT status, count(*), count(DISTINCT customer_id) FROM decisioning.sends GROUP BY 1") == [("queued", decided, decided)]
    # When it is over, the next day is planned.
    shop.session(db, now="2026-06-02 11:00+00").execute("CALL decisioning.decide_all('c')")
    days = "SELECT count(*) - count(DISTINCT (customer_id, send_at::date)) FROM decisioning.decisions WHERE send_at IS NOT NULL"
    assert db.sql(days) == [(0,)]
    assert open_sends(db, "2026-06-02 11:00+00") > 50
    assert db.sql("SELECT count(*) FROM decisioning.decisions d CROSS JOIN LATERAL decisioning.replay(d.decision_id) r WHERE NOT r.matches") == [(0,)]


def test_what_waits_for_quiet_hours_stays_open_until_it_can_be_sent(db):
    connection = db.connect()
    create(connection, "at_once", "2026-06-01 11:00+00")
    connection.execute("SELECT decisioning.set_send_options('c', fallback_time_zone => %s)", [ZONE])
    connection.execute("SELECT decisioning.set_quiet_hours('21:00', '08:00', 'c')")
    shop.session(db, now="2026-06-02 21:00+00").execute("CALL decisioning.decide_all('c')")
    late = "SELECT DISTINCT send_at AT TIME ZONE 'UTC' || '', expires_at AT TIME ZONE 'UTC' || '' FROM decisioning.decisions WHERE send_at > '2026-06-02'"
    assert db.sql(late) == [("2026-06-03 06:00:00", "2026-06-03 12:00:00")]
    assert db.sql("SELECT DISTINCT expires_at AT TIME ZONE 'UTC' || '' FROM decisioning.decisions WHERE decided_at < '2026-06-02'") == [("2026-06-01 22:00:00",)]


def test_a_slot_without_hours_is_told(db):
    told = []
    connection = db.connect()
    connection.add_notice_handler(lambda notice: told.append((notice.message_primary, notice.message_hint)))
    create(connection, "moring", "2026-06-01 11:00+00")
    connection.execute("""SELECT decisioning.add_action_grid('c', '{"channel": ["email"], "slot": ["25:99", "09:30", "evening"]}')""")
    hint = "Slots with hours are morning, midday, afternoon, evening, and times such as 09:30."
    assert [notice for notice in told if notice[1] == hint] == [(f'slot "{slot}" has no hours: its actions are sent at once', hint) for slot in ("moring", "25:99")]
