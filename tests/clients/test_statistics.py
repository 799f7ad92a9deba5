"""Sufficient statistics as aggregates: against numpy, in parallel, merged from parts, and on bytes that are no such thing."""

import json
import struct

import numpy as np
import psycopg
import pytest

import shop

ROWS = """FROM (SELECT d.decision_id, d.customer_id, d.action_id, d.encoded, 1.0 / d.overlap AS weight,
                  (mod(hashtext(d.customer_id), 5) = 0)::int::float8 AS reward
           FROM decisioning.decisions d WHERE d.campaign = 'c') AS r"""
ARGUMENTS = "%s, r.action_id, r.encoded, r.weight, r.reward"


@pytest.fixture
def learned(db):
    """A campaign that has learned something, and the point of its model."""
    connection = db.connect()
    shop.create(connection, customers=3000, explore=0.5)
    connection.execute("CALL decisioning.decide_all('c')")
    connection.execute("SELECT decisioning.record_outcome('buy', 'e-' || n, 'c-' || n) FROM generate_series(1, 3000, 7) n")
    connection = shop.session(db, now="2026-06-03 10:00+00")
    connection.execute("SELECT * FROM decisioning.learn('c')")
    (point,) = connection.execute("SELECT decisioning._linearisation_point('c')").fetchone()
    return connection, point


def numbers(statistics):
    """Linear term and precision (lower triangle, row by row) out of the wire format."""
    assert statistics[:8] == b"dstats\0\x01"
    (length,) = struct.unpack("<Q", statistics[8:16])
    found = np.frombuffer(statistics, "<f8", offset=16)
    assert len(found) == length + length * (length + 1) // 2
    return found[:length], found[length:]


def by_hand(connection, point):
    """The sums as docs/learning.md defines them, written afresh."""
    model = json.loads(point[16:])
    layout, coefficients = model["layout"], np.array(model["coefficients"])
    levels = [tuple(level) for level in layout["levels"]]
    width, send, inter = len(layout["base"]), len(layout["send"]), len(layout["interacting"])
    size = width + send + inter * len(levels) + len(layout["pairs"])
    precision, linear = np.zeros((size, size)), np.zeros(size)
    for action, encoded, weight, reward in connection.execute(
        f"SELECT r.action_id, r.encoded, r.weight::float8, r.reward {ROWS}"
    ).fetchall():
        x, encoded = np.zeros(size), np.array(encoded, np.float32).astype(float)
        x[:width] = encoded[layout["base"]]
        if action:
            x[width : width + send] = encoded[layout["send"]]
            chosen = {levels.index(pair) for pair in model["actions"][str(action)].items()}
            for level in chosen:
                start = width + send + level * inter
                x[start : start + inter] = encoded[layout["interacting"]]
            for n, pair in enumerate(layout["pairs"]):
                x[size - len(layout["pairs"]) + n] = set(pair) <= chosen
        eta = x @ coefficients
        p = 1 / (1 + np.exp(-eta))
        precision += weight * p * (1 - p) * np.outer(x, x)
        linear += weight * (reward - p + p * (1 - p) * eta) * x
    return linear, precision[np.tril_indices(size)]


def test_both_aggregates_and_the_merged_parts_equal_the_sums_by_hand(learned):
    connection, point = learned
    whole, partial, merged = connection.execute(
        f"""SELECT decisioning._statistics({ARGUMENTS}), decisioning._partial({ARGUMENTS}),
                   (SELECT decisioning._merge(part)
                    FROM (SELECT decisioning._partial({ARGUMENTS}) AS part {ROWS} GROUP BY r.customer_id
                          UNION ALL SELECT NULL) AS parts)
            {ROWS}""",
        [point] * 3,
    ).fetchone()
    linear, precision = by_hand(connection, point)
    for found in (whole, partial, merged):
        assert np.abs(numbers(found)[0] - linear).max() < 1e-8
        assert np.abs(numbers(found)[1] - precision).max() < 1e-8
    assert np.linalg.norm(precision) > 10


def test_rows_with_a_null_are_skipped_and_none_give_null(learned):
    connection, point = learned
    aggregate = f"decisioning.%s({ARGUMENTS})"
    for name in ("_statistics", "_partial"):
        everything, without = connection.execute(
            f"""SELECT decisioning.{name}({ARGUMENTS}), (SELECT decisioning.{name}(r.point, r.action_id, r.encoded, r.weight, r.reward)
                FROM (SELECT %s::bytea AS point, r.* {ROWS}
                      UNION ALL VALUES (NULL::bytea, NULL::uuid, 'x', 0, '{{1}}'::float4[], 1, 0::float8),
                          (%s, NULL, 'x', NULL, '{{1}}', 1, 0), (%s, NULL, 'x', 0, NULL, 1, 0), (%s, NULL, 'x', 0, '{{1}}', NULL, 0),
                          (%s, NULL, 'x', 0, '{{1}}', 1, NULL), (%s, NULL, 'x', 0, '{{1,NULL}}', 1, 0)) AS r)
                {ROWS}""",
            [point] * 7,
        ).fetchone()
        assert np.allclose(numbers(everything)[1], numbers(without)[1], rtol=0, atol=1e-9)
        assert connection.execute(f"SELECT decisioning.{name}({ARGUMENTS}) {ROWS} WHERE false", [point]).fetchone() == (None,)
    assert connection.execute("SELECT decisioning._merge(NULL)").fetchone() == (None,)


@pytest.mark.parametrize("name", ["_statistics", "_partial"])
def test_it_runs_in_parallel(learned, name):
    connection, point = learned
    for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
        connection.execute(f"SET {setting} = 0")
    query = f"SELECT decisioning.{name}((SELECT decisioning._linearisation_point('c')), d.action_id, d.encoded, 1, 0) FROM decisioning.decisions d"
    connection.execute("SET max_parallel_workers_per_gather = 2")
    plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN (ANALYZE, COSTS off, TIMING off) {query}").fetchall())
    assert "Partial Aggregate" in plan and "Finalize Aggregate" in plan and "Workers Launched: 2" in plan, plan
    parallel = connection.execute(query).fetchone()[0]
    connection.execute("SET max_parallel_workers_per_gather = 0")
    alone = connection.execute(query).fetchone()[0]
    for a, b in zip(numbers(parallel), numbers(alone)):
        assert np.abs(a - b).max() < 1e-9


def test_steps_lead_to_the_model_that_learn_finds(learned):
    """A refit without learn: sums taken in parts, a Newton step, and again. It ends where learn ends, given the same weights."""
    connection, point = learned
    rows = """FROM decisioning.decisions d
              CROSS JOIN LATERAL (SELECT EXISTS (
                  SELECT FROM decisioning.outcomes o WHERE o.customer_id = d.customer_id)::int::float8 AS reward) AS r"""
    moved = []
    for _ in range(4):
        (statistics,) = connection.execute(
            f"""SELECT decisioning._merge(part) FROM (
                    SELECT decisioning._partial(%s, d.action_id, d.encoded, power(2, -2.0 / 30) / d.overlap, r.reward) AS part
                    {rows} GROUP BY mod(hashtext(d.customer_id), 3)) AS shards""",
            [point],
        ).fetchone()
        point, coefficients, errors, distance = connection.execute(
            "SELECT next_point, coefficients, standard_errors, moved FROM decisioning._newton_step(%s, %s)", [point, statistics]
        ).fetchone()
        moved.append(distance)
    assert moved[-1] < 1e-6
    [(learned_to, learned_errors)] = connection.execute(
        "SELECT coefficients, standard_errors FROM decisioning._model_part JOIN decisioning._learner USING (campaign, model_version) WHERE part = 'response'"
    ).fetchall()
    assert np.abs((np.array(coefficients) - learned_to) / learned_errors).max() < 1e-3
    assert np.abs(np.array(errors) / learned_errors - 1).max() < 1e-3


def test_what_is_no_statistics_or_point_is_an_error(db, learned):
    connection, point = learned
    (whole,) = connection.execute(f"SELECT decisioning._statistics({ARGUMENTS}) {ROWS}", [point]).fetchone()
    broken = [b"", b"dstats", whole[:-1], whole + b"\0", whole[:8] + b"\xff" * 8 + whole[16:], whole[:-8] + struct.pack("<d", float("nan"))]
    for bytes_ in broken:
        for query in ("SELECT decisioning._merge(%(bytes)s)", "SELECT * FROM decisioning._newton_step(%(point)s, %(bytes)s)"):
            with pytest.raises(psycopg.errors.DataCorrupted):
                connection.execute(query, {"bytes": bytes_, "point": point})
    # A backend that knows the point of a checksum does not read its bytes again; a fresh one does.
    fresh = db.connect()
    flipped = point[:100] + bytes([point[100] ^ 1]) + point[101:]
    for bytes_ in (b"", whole, point[:-1], flipped):
        for name in ("_statistics", "_partial"):
            with pytest.raises(psycopg.errors.DataCorrupted):
                fresh.execute(f"SELECT decisioning.{name}(%s, 0, '{{1}}', 1, 0)", [bytes_])
    short = struct.pack("<8sQ2d", b"dstats\0\x01", 1, 0, 0)
    for query in ("SELECT decisioning._merge(part) FROM (VALUES (%(a)s::bytea), (%(b)s)) AS t(part)", "SELECT * FROM decisioning._newton_step(%(p)s, %(b)s)"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="coefficients"):
            connection.execute(query, {"a": whole, "b": short, "p": point})
    for name in ("_statistics", "_partial"):
        for arguments in ("0, '{1}', 1, 0", "99, '{1}', 1, 0", "0, '{1,NaN,0,0,0,0,0,0,0,0,0}', 1, 0"):
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                connection.execute(f"SELECT decisioning.{name}(%s, {arguments})", [point])
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute("SELECT decisioning._merge_add(%s, %s)", [whole, whole])
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="several points"):
        connection.execute(
            f"SELECT decisioning._statistics(CASE WHEN n = 1 THEN %s ELSE (SELECT next_point FROM decisioning._newton_step(%s, %s)) END, r.action_id, r.encoded, 1, 0) {ROWS}, generate_series(1, 2) n",
            [point, point, whole],
        )


def test_two_points_in_one_query_do_not_mix(learned):
    connection, point = learned
    (whole,) = connection.execute(f"SELECT decisioning._statistics({ARGUMENTS}) {ROWS}", [point]).fetchone()
    (other,) = connection.execute("SELECT next_point FROM decisioning._newton_step(%s, %s)", [point, whole]).fetchone()
    both = connection.execute(
        f"SELECT decisioning._statistics({ARGUMENTS}), decisioning._statistics({ARGUMENTS}) {ROWS}", [point, other]
    ).fetchone()
    assert np.allclose(numbers(both[0])[1], numbers(whole)[1], rtol=0, atol=1e-9)
    assert not np.allclose(numbers(both[0])[0], numbers(both[1])[0])


def test_rights(db, learned):
    db.sql("SELECT decisioning.grant_rights(%s, 'manager')", [db.create_role("statistician")])
    connection = db.connect(role="statistician")
    (point,) = connection.execute("SELECT decisioning._linearisation_point('c')").fetchone()
    assert connection.execute("SELECT decisioning._partial(%s, NULL, '{1}', 1, 0)", [point]).fetchone() == (None,)
    stranger = db.connect(role=db.create_role("stranger"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        stranger.execute("SELECT decisioning._linearisation_point('c')")
