"""A campaign of four simulated weeks in which there is something of everything that a report tells."""

from dataclasses import dataclass

SALT = "00000000-0000-4000-8000-000000000011"
DAYS = 28


@dataclass(frozen=True)
class Names:
    """Whatever users name."""

    campaign: str = "winback"
    description: str = "Customers who have not ordered for 60 days."
    goal: str = "purchase"
    harm: str = "unsubscribe"
    messages: tuple[str, str, str] = ("we_miss_you", "new_in", "last_chance")
    kinds: tuple[str, str, str] = ("regular", "bargain hunter", "new")
    rule: str = "no minors"


def build(connection, names=Names(), customers=5000):
    """`connection` commits by itself, and is left on the evening of the last day."""
    run = connection.execute
    at(connection, 0)
    run(
        "CREATE TABLE public.customers AS SELECT 'c-' || n AS id, 16 + n %% 60 AS age, (%s::text[])[1 + n %% 3] AS kind, "
        "n %% 10 AS due, 'c' || n || '@example.com' AS email FROM generate_series(1, %s) n",
        [list(names.kinds), customers],
    )
    run("ALTER TABLE public.customers ADD PRIMARY KEY (id)")
    run("CREATE TABLE public.calendar AS SELECT 0 AS day")
    run("CREATE VIEW public.arrivals AS SELECT c.* FROM public.customers c WHERE c.due = (SELECT day % 10 FROM public.calendar)")
    run("CREATE TABLE public.events (id text PRIMARY KEY, goal text, customer text, at timestamptz, margin float8)")
    run(
        "SELECT decisioning.create_campaign(%s, 'public.arrivals', 'id', features => '{age, kind}', time_zone => 'Europe/Vienna', "
        "explore_share => 0.15, holdout_share => 0.20, currency => 'EUR', description => %s)",
        [names.campaign, names.description],
    )
    run("UPDATE decisioning.campaigns SET salt = %s", [SALT])
    for message in names.messages:
        for channel, cost in [("email", 0.01), ("sms", 0.08)]:
            for slot in ["morning", "evening"]:
                run(
                    "SELECT decisioning.add_action(%s, %s, message => %s, channel => %s, slot => %s, cost_send => %s)",
                    [names.campaign, f"{message}/{channel}/{slot}", message, channel, slot, cost],
                )
    run("SELECT decisioning.approve_action(campaign, action) FROM decisioning.actions")
    run("SELECT decisioning.add_goal(%s, 'value')", [names.goal])
    run("SELECT decisioning.add_campaign_goal(%s, %s, attribution_window => '2 days')", [names.campaign, names.goal])
    run("SELECT decisioning.add_goal(%s, 'harm')", [names.harm])
    run("SELECT decisioning.add_campaign_goal(%s, %s, value => -5, attribution_window => '2 days')", [names.campaign, names.harm])
    for goal in [names.goal, names.harm]:
        run(
            "SELECT decisioning.add_outcome_source(%s, 'public.events', 'customer', 'at', value => 'margin', event_id => 'id', "
            "filter => format('goal = %%L', %s::text))",
            [goal, goal],
        )
    run("SELECT decisioning.add_eligibility_rule(%s, 'age >= 18', rule => %s)", [names.campaign, names.rule])
    run("SELECT decisioning.add_frequency_cap(1, 'month', campaign => %s, actions => '{\"channel\": \"sms\"}')", [names.campaign])
    run("SELECT decisioning.set_budget(%s, 700, period => 'month')", [names.campaign])
    run("SELECT decisioning.set_budget(%s, 6000, period => 'total', unit => 'sends', dimension => 'message', level => %s)", [names.campaign, names.messages[1]])
    run("SELECT decisioning.add_source('crm', 'public.customers', 'id', '{\"email\": \"email\"}')")
    run("CALL decisioning.resolve_all()")
    run("SELECT decisioning.start_campaign(%s)", [names.campaign])
    for day in range(DAYS):
        at(connection, day)
        run("UPDATE public.calendar SET day = %s", [day])
        if day == 12:
            run("UPDATE decisioning.campaigns SET propensity_floor = 0.05")
        run("SELECT decisioning.learn(%s)", [names.campaign])
        run("CALL decisioning.decide_all(%s)", [names.campaign])
        respond(connection, names, day)
        at(connection, day, hour=20)
        run("SELECT decisioning.ingest_outcomes()")
    at(connection, DAYS - 1, hour=20)
    run("SELECT decisioning.learn(%s)", [names.campaign])
    run("SELECT decisioning.estimate_guardrail_costs(%s)", [names.campaign])
    # Changes are dated by the clock of the server, which is not simulated.
    run("UPDATE decisioning.epochs SET changed_at = CASE WHEN before ->> 'propensity_floor' <> after ->> 'propensity_floor' "
        "THEN timestamptz '2026-06-13 09:00+02' ELSE '2026-06-01 08:00+02' END")


def at(connection, day, hour=9):
    connection.execute(
        "SELECT set_config('decisioning.simulated_now', (timestamptz '2026-06-01 00:00+02' + %s * interval '1 day' + %s * interval '1 hour')::text, false)",
        [day, hour],
    )


def respond(connection, names, day):
    """Who was decided for today orders, or leaves, as a hash of his id and the day has it."""
    connection.execute(
        """
        INSERT INTO public.events
        SELECT format('%%s %%s %%s', d.customer_id, %(day)s::text, g.goal), g.goal, d.customer_id, d.decided_at + interval '5 hours',
               CASE g.goal WHEN %(goal)s::text THEN 15 + 30 * (('x' || left(md5('m' || d.customer_id), 6))::bit(24)::integer / 16777216.0) END
        FROM decisioning.decisions d
        JOIN decisioning.campaigns c ON c.campaign = d.campaign
        LEFT JOIN decisioning.actions a ON a.campaign = d.campaign AND a.action = d.action
        CROSS JOIN LATERAL (VALUES
            (%(goal)s::text, 0.06 + CASE WHEN a.action IS NULL THEN 0 ELSE 0.02 END
                + CASE WHEN a.message = %(first)s::text AND d.context ->> 'kind' = %(kind)s::text THEN 0.12 ELSE 0 END
                + CASE WHEN a.message = %(third)s::text AND d.context ->> 'kind' <> %(kind)s::text THEN 0.07 ELSE 0 END
                + CASE WHEN a.slot = 'evening' THEN 0.03 ELSE 0 END),
            (%(harm)s::text, CASE WHEN a.channel = 'sms' THEN 0.03 ELSE 0.01 END)) AS g (goal, probability)
        WHERE d.decided_at >= decisioning._now() - interval '1 minute'
          AND ('x' || left(md5(d.customer_id || g.goal || %(day)s::text), 6))::bit(24)::integer / 16777216.0 < g.probability
        """,
        {"day": str(day), "goal": names.goal, "harm": names.harm, "first": names.messages[0], "third": names.messages[2], "kind": names.kinds[0]},
    )
