#!/usr/bin/env bash
# Sufficient statistics of logged decisions as aggregates, in parallel and alone, against a plain count of the same rows in
# parallel. Prints the times, and how many times the count each takes.
#
#   DECISIONS=1000000 CUSTOMERS=20000 benches/aggregates.sh
source "$(dirname "$0")/lib.sh"
decisions=${DECISIONS:-1000000} customers=${CUSTOMERS:-20000}

bench_cluster aggregates -c shared_buffers=2GB -c max_wal_size=8GB -c autovacuum=off -c jit=off
bench_campaign "$customers"
say "decisions: $decisions"
psql -XqAt -v ON_ERROR_STOP=1 -v customers="$customers" -v decisions="$decisions" <<'SQL'
SET client_min_messages = warning;
UPDATE decisioning.campaigns SET explore_share = 0.5;
CALL decisioning.decide_all('c');
-- As many rows as a log would have, with the columns that statistics need.
CREATE TABLE log AS
SELECT d.action_id, d.encoded, 1.0::float8 AS weight, (hashtext(d.customer_id || n) % 20 = 0)::int::float8 AS reward
FROM decisioning.decisions d, generate_series(1, :decisions / :customers) n;
ANALYZE log;
SQL

# seconds WORKERS AGGREGATE: best of three.
seconds() {
  for _ in 1 2 3; do
    psql -XqAt -v ON_ERROR_STOP=1 <<SQL | awk '/^Time/ {print $2 / 1000}'
SET max_parallel_workers_per_gather = $1;
SET min_parallel_table_scan_size = 0;
\timing on
SELECT length($2::text) > 0 FROM log AS d;
SQL
  done | sort -n | head -1
}

arguments="(SELECT decisioning._linearisation_point('c')), d.action_id, d.encoded, d.weight, d.reward"
count=$(seconds 2 "count(*)")
for aggregate in _statistics _partial; do
  for workers in 0 2; do
    taken=$(seconds $workers "decisioning.$aggregate($arguments)")
    awk -v a="$aggregate" -v w="$workers" -v t="$taken" -v c="$count" -v n="$decisions" 'BEGIN {
      printf "%s, %d workers: %.3f s (%.0f decisions/s); count in parallel: %.3f s\n", a, w, t, n / t, c
      printf "aggregate%s-%d ratio %.1f\n", a, w, t / c }'
  done
done
