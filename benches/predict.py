"""Decisions a second: decide_all, Vowpal Wabbit's native driver, and its Python predict with rows logged by COPY."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psycopg
import vowpalwabbit

FEATURES = ("age", "orders", "spend", "member", "app", "days", "visits", "city", "tier", "brand", "source", "score")
ARGUMENTS = "--cb_explore_adf --squarecb --gamma_scale 300 -q ua --quiet"
#: Decisions that the peer's model has learned from.
LEARNED = 2000

work = Path(sys.argv[1])
with psycopg.connect(autocommit=True) as connection:
    rows = connection.execute(f"SELECT id, {', '.join(FEATURES)} FROM customers ORDER BY id COLLATE \"C\"").fetchall()
    actions = connection.execute("SELECT message, offer, channel, slot FROM decisioning.actions ORDER BY action_id").fetchall()
    start = time.perf_counter()
    connection.execute("CALL decisioning.decide_all('c')")
    ours = len(rows) / (time.perf_counter() - start)
    assert connection.execute("SELECT count(*) FROM decisioning.decisions").fetchone() == (len(rows),)
    connection.execute("INSERT INTO plain SELECT * FROM decisioning.decisions LIMIT 1")
    template = connection.execute("SELECT * FROM plain").fetchone()
    columns = [column.name for column in connection.execute("SELECT * FROM plain LIMIT 0").description]
    connection.execute("TRUNCATE plain")

arms = ["|a no_send"] + [f"|a {' '.join(levels)}" for levels in actions]


def shared(row):
    """Numbers as they are, everything else as a category."""
    values = zip(FEATURES, row[1:])
    return "shared |u " + " ".join(
        f"{name}:{value / 100}" if type(value) in (int, float) else f"{name}={str(value).replace(' ', '_')}" for name, value in values
    )


random = np.random.default_rng(1)
model = vowpalwabbit.Workspace(ARGUMENTS)
for row in rows[:LEARNED]:
    arm = random.integers(len(arms))
    cost = -float(random.random() < 0.05)
    model.learn([shared(row), *(f"0:{cost}:{1 / len(arms)} {a}" if n == arm else a for n, a in enumerate(arms))])
model.save(str(work / "model"))
(work / "examples").write_text("\n\n".join("\n".join([shared(row), *arms]) for row in rows) + "\n\n")
start = time.perf_counter()
subprocess.run(
    [sys.executable, "-m", "vowpalwabbit", "-t", "-i", work / "model", "-d", work / "examples", "-p", work / "scores", "--quiet"], check=True
)
native = len(rows) / (time.perf_counter() - start)
scores = (work / "scores").read_text().split("\n\n")
assert sum(len(lines) > 0 for lines in scores) == len(rows), "one block of scores per customer"

known = dict(zip(columns, template))
start = time.perf_counter()
with psycopg.connect() as connection, connection.cursor().copy(f"COPY plain ({', '.join(columns)}) FROM STDIN") as copy:
    for n, row in enumerate(rows):
        scores = np.zeros(len(arms))
        for arm, p in enumerate(model.predict([shared(row), *arms])):
            scores[arm] = p
        arm = random.choice(len(arms), p=scores / scores.sum())
        known.update(
            decision_id=f"{n:032x}",
            customer_id=row[0],
            action_id=int(arm),
            propensity=float(scores[arm]),
            propensities=scores.tolist(),
            context=json.dumps(dict(zip(FEATURES, row[1:]))),
        )
        copy.write_row([known[column] for column in columns])
python = len(rows) / (time.perf_counter() - start)
print(f"decide_all {ours:.0f}/s; Vowpal Wabbit native, scores alone {native:.0f}/s; its Python predict with COPY {python:.0f}/s")
print(f"predict-python ratio {ours / python:.3f}")
print(f"predict-native ratio {ours / native:.3f}")
