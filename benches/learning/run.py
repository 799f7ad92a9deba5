"""Plays the engines on the worlds and prints what share of the oracle's gain over uniform choice each one captured.

Every engine, world and seed is one job; jobs run in parallel processes. The last line is `quality ratio VALUE`: the extension over
the best peer, the smaller of the ratios of all volumes.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import mean

import psycopg
from engines import PEERS, Uniform
from extension import Extension
from variants import WORLDS
from world import best_fixed, captured, play

OURS = "decisioning"
FIXED, FIXED_PHASE = "best fixed action, of all days", "best fixed action, of the phase"


def phases(world):
    """Name and days of every phase that is reported; the first is everything."""
    drift, new = world.drift_day, world.new_day
    bounds = [(0, world.days), (0, 5), (5, drift), (drift, new), (new, world.days)]
    return {("all" if n == 0 else f"{a}–{b}"): slice(a, b) for n, (a, b) in enumerate(bounds)}


def run(job):
    """Plays one engine on one world; returns its shares by phase, and how long it took."""
    name, kind, per_day, seed = job
    world = WORLDS[kind](seed, per_day)
    started = time.monotonic()
    if name == OURS:
        database = f"learning_{kind}_{per_day}_{seed}"
        with psycopg.connect(dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        with psycopg.connect(dbname=database, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION decisioning")
            totals, fixed = play(world, Extension(world, connection, **world.settings))
        with psycopg.connect(dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {database}")
    else:
        totals, fixed = play(world, {**PEERS, FIXED: Uniform}[name](world))
    found = {name: {phase: captured(totals, days) for phase, days in phases(world).items()}}
    if name == FIXED:
        everything = slice(0, world.days)
        found[FIXED] = {phase: best_fixed(totals, fixed, days, everything) for phase, days in phases(world).items()}
        found[FIXED_PHASE] = {phase: best_fixed(totals, fixed, days) for phase, days in phases(world).items()}
    return job, found, time.monotonic() - started


def report(kind, per_day, seeds, found):
    """Prints the table of one world and volume; returns ours over the best peer."""
    print(f"\n{kind}, {per_day} a day, mean of seeds {' '.join(map(str, seeds))}")
    names = list(next(iter(found.values())))
    print(f"{'':34}" + "".join(f"{phase:>9}" for phase in names) + "   by seed")
    overall = {}
    engines = sorted({engine for engine, _ in found}, key=lambda engine: (engine != OURS, engine in (FIXED, FIXED_PHASE), engine))
    for engine in engines:
        by_seed = [found[engine, seed] for seed in seeds if (engine, seed) in found]
        shares = {phase: mean(shares[phase] for shares in by_seed) for phase in names}
        overall[engine] = shares["all"]
        print(f"{engine:34}" + "".join(f"{shares[phase]:9.3f}" for phase in names) + "   " + " ".join(f"{s['all']:.3f}" for s in by_seed))
    peers = [overall[engine] for engine in PEERS if engine in overall]
    return overall[OURS] / max(peers) if peers and OURS in overall else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--per-day", nargs="+", type=int, default=[2_000, 10_000], help="of the marketing world; others have 2 000")
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12, 13, 14])
    parser.add_argument("--engines", nargs="+", default=[OURS, *PEERS, FIXED])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    cells = [(kind, per_day) for kind in arguments.worlds for per_day in (arguments.per_day if kind == "marketing" else [2_000])]
    jobs = [(name, *cell, seed) for cell in cells for seed in arguments.seeds for name in arguments.engines]
    found = {cell: {} for cell in cells}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for (name, kind, per_day, seed), shares, seconds in pool.map(run, jobs):
            print(f"{kind} {per_day} seed {seed} {name}: {shares[name]['all']:.3f} ({seconds:.0f} s)", file=sys.stderr, flush=True)
            found[kind, per_day].update({(engine, seed): values for engine, values in shares.items()})
    ratios = []
    for cell, results in found.items():
        ratio = report(*cell, arguments.seeds, results)
        if ratio is not None:
            print(f"ours over the best peer: {ratio:.2f}")
            if cell[0] == "marketing":
                ratios.append(ratio)
    if ratios:
        print(f"quality ratio {min(ratios):.3f}")


if __name__ == "__main__":
    main()
