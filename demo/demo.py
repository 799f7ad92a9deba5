#!/usr/bin/env python3
"""The whole loop on a real marketing test, in an empty database: what docs/demo.md describes and `make demo` runs.

demo.py --dsn "host=… port=… user=… dbname=…" [--report FILE]
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from psycopg.conninfo import conninfo_to_dict

sys.path.insert(0, str(Path(__file__).resolve().parent))

import datasets
import fragments
import loop
import protection
import warehouse
from console import Session, Table, percent, points, say, step
from datasets import MarketingTest
from responses import ResponseModel

SEED = 20080320


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dsn", required=True, help="of an empty database, as a superuser")
    parser.add_argument("--report", type=Path, help="file for the report of the simulated campaign")
    arguments = parser.parse_args()
    dsn = arguments.dsn
    started = time.monotonic()
    rng = np.random.default_rng(SEED)
    today = pd.Timestamp.now(tz="UTC").normalize()
    try:
        with step("1  A real marketing test becomes a warehouse"):
            test = datasets.load(say)
            say(f"Using {test.title}.")
            say(f"It comes from {test.origin}.")
            say(test.caveat)
            session = Session(dsn)
            session.run("SET timezone = 'UTC'", quiet=True)
            session.run("CREATE EXTENSION decisioning")
            halves = test.halves(rng)
            # The two halves are two mailings, so that a time tells them apart.
            sent_at = {"A": today - pd.Timedelta(days=50), "B": today - pd.Timedelta(days=40)}
            warehouse.load(session, test, halves, pd.Series(halves).map(sent_at), rng)
            say(f"{len(test.customers)} customers, {test.responded.sum()} of whom responded, in the schema warehouse.")
        with step("2  Who is who: the fragments of every customer, resolved by their identifiers"):
            resolve(session, test, rng)
        with step("3  Past decisions: learn from half A, value policies on half B"):
            evaluate(session, test, since=sent_at["B"])
        with step("4  The loop: ten simulated mornings of deciding, recording, learning"):
            play(session, test, halves, today, rng)
        with step("5  Guardrails: somebody who is protected by each kind of rule"):
            protection.play(session, today)
        if arguments.report:
            with step("6  The report, for people who do not read views"):
                write_report(session, arguments.report)
        with step("7  Go on playing"):
            farewell(session, dsn, test, since=sent_at["B"])
        say(f"The demo took {time.monotonic() - started:.0f} s.")
    except datasets.DatasetError as error:
        sys.exit(f"error: {error}")


def resolve(session: Session, test: MarketingTest, rng: np.random.Generator) -> None:
    sources = fragments.split(test.customers.index, rng)
    warehouse.load_sources(session, sources)
    for source in sources:
        session.run(
            "SELECT decisioning.add_source(%(source)s, %(relation)s, key => %(key)s, default_country => 'US',\n"
            "       fields => %(fields)s)",
            {
                "source": source.name,
                "relation": f"warehouse.{source.relation}",
                "key": source.key,
                "fields": pd.Series(source.fields).to_json(),
            },
        )
    started = time.monotonic()
    session.run("CALL decisioning.resolve_all()")
    seconds = time.monotonic() - started
    rows = session.run("SELECT source, record_key, customer_id FROM decisioning.identity_map", quiet=True)
    found = {(source, key): customer for source, key, customer in rows}
    records = [
        (source.name, key, truth) for source in sources for key, truth in zip(source.table[source.key], source.truth)
    ]
    truth = [customer for _, _, customer in records]
    found = [found[name, key] for name, key, _ in records]
    scores, possible = fragments.pairwise_scores(truth, found), fragments.pairwise_scores(
        truth, fragments.linked(sources)
    )
    sizes = ", ".join(f"{len(source.table)} {source.name}" for source in sources)
    say(
        f"{len(records)} fragments ({sizes}) of {len(set(truth))} customers; "
        f"found {len(set(found))} customers in {seconds:.1f} s."
    )
    say(f"Of all pairs of fragments: precision {scores.precision:.4f}, recall {scores.recall:.4f}, F1 {scores.f1:.4f}.")
    say(
        f"Without a single mistake: recall {possible.recall:.4f}, F1 {possible.f1:.4f}; "
        "no identifier links the other pairs."
    )


def evaluate(session: Session, test: MarketingTest, since: pd.Timestamp) -> None:
    campaign = {"campaign": test.campaign}
    detectable = session.value(
        "SELECT decisioning.create_campaign(%(campaign)s, customers => 'warehouse.customers',\n"
        "       customer_key => 'customer_id')",
        campaign,
    )
    say(detectable)
    loop.fix_salt(session, test.campaign)
    loop.add_actions(session, test, test.campaign)
    goal = {"campaign": test.campaign, "goal": test.goal}
    session.run("SELECT decisioning.add_goal(%(goal)s, kind => 'conversion')", goal)
    session.run("SELECT decisioning.add_campaign_goal(%(campaign)s, %(goal)s, attribution_window => '7 days')", goal)
    session.run(
        "SELECT decisioning.add_outcome_source(%(goal)s, 'warehouse.events', customer_key => 'customer_id',\n"
        "       occurred_at => 'occurred_at', event_id => 'event_id', filter => %(filter)s)",
        goal | {"filter": f"event = '{test.goal}'"},
    )
    import_half(session, test, "A")
    learned = session.value("SELECT decisions FROM decisioning.learn(%(campaign)s)", campaign)
    say(f"The model has learned from {learned} decisions.")
    import_half(session, test, "B")
    say("Half B is in the log, but not learned from. Values of policies there:")
    values = session.run(
        "SELECT policy, value, standard_error, lower, upper, effective_decisions, in_sample\n"
        "FROM decisioning.evaluate_policy(%(campaign)s, since => %(since)s)\n"
        "WHERE policy <> 'logged' AND estimator = 'snips' ORDER BY value DESC",
        campaign | {"since": since.date()},
    )
    Table(
        ["policy", f"rate of {test.goal}", "95 % interval", "worth decisions", "out of sample"],
        [
            [
                policy,
                percent(value),
                f"{percent(lower)} … {percent(upper)}",
                f"{worth:.0f}",
                "NO" if in_sample else "yes",
            ]
            for policy, value, _, lower, upper, worth, in_sample in values
        ],
    )
    say(verdict({policy: (value, error) for policy, value, error, *_ in values}))


def import_half(session: Session, test: MarketingTest, half: str) -> None:
    count = session.value(
        "SELECT decisioning.import_decisions(%(campaign)s, 'warehouse.test_history', customer_key => 'customer_id',\n"
        "       action => 'action', decided_at => 'decided_at', propensity => 'propensity', filter => %(filter)s)",
        {"campaign": test.campaign, "filter": f"half = '{half}'"},
    )
    say(f"{count} decisions of half {half} imported.")


def verdict(values: dict[str, tuple[float, float]]) -> str:
    """What the values and standard errors of policies say about the learned one, and what they do not."""
    learned, error = values["learned"]
    best = max((policy for policy in values if policy.startswith("always ")), key=lambda policy: values[policy][0])
    gap = learned - values[best][0]
    # The two estimates share decisions, so that their difference varies less than this.
    if abs(gap) < 1.96 * math.hypot(error, values[best][1]):
        finding = "no difference that this test could show"
    else:
        finding = "better" if gap > 0 else "worse"
    return (
        f"The learned policy against the best fixed one ({best}, picked with hindsight): "
        f"{points(gap)} points, {finding}. "
        f"Against no-send {points(learned - values['always no_send'][0])}, "
        f"against random {points(learned - values['random'][0])}."
    )


def play(
    session: Session, test: MarketingTest, halves: np.ndarray, today: pd.Timestamp, rng: np.random.Generator
) -> None:
    in_a = halves == "A"
    model = ResponseModel.fit(test.customers[in_a], test.assigned[in_a], test.responded[in_a])
    say("Responses are drawn from a logistic regression on half A with every feature × action interaction.")
    world = loop.World.draw(test, np.flatnonzero(~in_a), model, rng)
    # The simulated days lie before today; today's arrivals are left to the user.
    dates = pd.date_range(end=today - pd.Timedelta(days=2), periods=loop.DAYS).append(pd.DatetimeIndex([today]))
    loop.set_up(session, test, world, dates)
    decided = loop.play(session, test, world, dates)
    loop.report(session, test, world, decided)
    say()
    loop.explain(session, decided)
    session.run("RESET decisioning.simulated_now", quiet=True)
    session.run("UPDATE warehouse.calendar SET today = %(today)s", {"today": today}, quiet=True)


def write_report(session: Session, file: Path) -> None:
    page = session.value("SELECT decisioning.report(%(campaign)s)", {"campaign": loop.CAMPAIGN}, quiet=True)
    file.write_text(page, encoding="utf-8")
    say(f"psql -AtXc \"select decisioning.report('{loop.CAMPAIGN}')\" > {os.path.relpath(file)}")
    say(f"Open {os.path.relpath(file)} in a browser: one page of {len(page) // 1024} kB that needs no network.")


def farewell(session: Session, dsn: str, test: MarketingTest, since: pd.Timestamp) -> None:
    server = conninfo_to_dict(dsn)
    options = [("-h", "host"), ("-p", "port"), ("-U", "user"), ("-d", "dbname")]
    say("psql " + " ".join(f"{option} {server[name]}" for option, name in options if server.get(name)))
    somebody = session.value(
        "SELECT min(customer_id) FROM warehouse.arrivals WHERE arrives_on = (SELECT today FROM warehouse.calendar)",
        quiet=True,
    )
    say()
    for about, query in [
        (
            "Who arrives today is still undecided:",
            f"SELECT * FROM decisioning.preview('{somebody}', '{loop.CAMPAIGN}');",
        ),
        (
            "Decide for all of them, and see what comes out:",
            f"CALL decisioning.decide_all('{loop.CAMPAIGN}');\n"
            "SELECT treatment_group, action, count(*), avg(propensity) FROM decisioning.open_decisions\n"
            f"WHERE campaign = '{loop.CAMPAIGN}' GROUP BY 1, 2 ORDER BY 1, 2;",
        ),
        ("Does it work?", f"SELECT * FROM decisioning.lift WHERE campaign = '{loop.CAMPAIGN}';"),
        (
            "What has it learned?",
            f"SELECT in_words FROM decisioning.coefficients WHERE campaign = '{test.campaign}'\n"
            "ORDER BY abs(estimate) / standard_error DESC LIMIT 20;",
        ),
    ]:
        say(f"-- {about}")
        for line in query.splitlines():
            say(line)
    session.close()


if __name__ == "__main__":
    main()
