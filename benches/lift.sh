#!/usr/bin/env bash
# lift and group_balance over ten million decisions and a million outcomes, against a plain grouped count over decisions and
# outcomes, and against one over the rows that lift reads (a row per customer, and outcomes).
#
# And the report at that size, with the insights that maintain keeps and without.
#
#   CUSTOMERS=2000000 benches/lift.sh
source "$(dirname "$0")/lib.sh"
customers=${CUSTOMERS:-2000000} seed_customers=20000 days=5

bench_cluster lift -c shared_buffers=4GB -c max_wal_size=32GB -c autovacuum=off -c checkpoint_timeout=1h -c synchronous_commit=off -c maintenance_work_mem=1GB \
  -c max_parallel_workers_per_gather=2
bench_campaign "$seed_customers"
say "$customers customers, $days decisions each, an outcome for every other one"
psql -XqAt -v ON_ERROR_STOP=1 -v copies="$((customers / seed_customers - 1))" -v days="$days" >/dev/null <<'SQL'
SET decisioning.simulated_now = '2026-01-05 10:00+00';
SELECT decisioning.maintain();
SELECT s.statement
FROM generate_series(0, :days - 1) n
CROSS JOIN LATERAL (VALUES (1, format('SET decisioning.simulated_now = %L', timestamptz '2026-01-05 10:00+00' + n * interval '1 day')),
                           (2, 'CALL decisioning.decide_all(''c'')')) AS s(step, statement) ORDER BY n, s.step \gexec
CREATE TEMP TABLE decided AS SELECT * FROM decisioning.decisions;
CREATE TEMP TABLE assigned AS SELECT * FROM decisioning._assignment;
INSERT INTO decisioning.decisions
SELECT (overlay(d.decision_id::text PLACING left(md5(d.customer_id || n), 12) FROM 25 FOR 12))::uuid, d.customer_id || '-' || n,
       d.campaign, d.treatment_group, d.action, d.action_id, d.propensity, d.reason, d.decided_at, d.expires_at, d.send_at, d.origin, d.ordinal,
       d.overlap, d.epoch, d.model_version, d.encoder_version, d.candidates, d.propensities, d.encoded, d.context
FROM decided d, generate_series(1, :copies) n;
INSERT INTO decisioning._assignment
SELECT s.customer_id || '-' || n, s.campaign, s.treatment_group, s.bucket, s.epoch, s.exposed_at, s.treatable, s.ordinal, s.decision_id, s.decided_at, s.period_ends_at,
       s.recent_decisions
FROM assigned s, generate_series(1, :copies) n;
INSERT INTO decisioning.outcomes (goal, event_id, customer_id, kind, events, value, occurred_at, recorded_at)
SELECT 'buy', 'e-' || row_number() OVER (), s.customer_id, 'event', 1, 10 + abs(hashtext(s.customer_id)) % 50,
       s.exposed_at + abs(hashtext('t' || s.customer_id)) % 400000 * interval '1 second', s.exposed_at + interval '5 days'
FROM decisioning._assignment s WHERE hashtext('b' || s.customer_id) % 2 = 0;
TRUNCATE decisioning._inbox;
VACUUM ANALYZE;
SQL
# milliseconds STATEMENT: the faster of two runs
milliseconds() {
  psql -XqAt -v ON_ERROR_STOP=1 -c "SET decisioning.simulated_now = '2026-01-20 10:00+00'" -c 'SET jit = off' -c 'SELECT 1 FROM decisioning.goals LIMIT 1' -c '\timing on' -c "$1" -c "$1" |
    sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p' | sort -n | head -1
}
plain=$(milliseconds "SELECT count(*) FROM (SELECT d.campaign, d.treatment_group, count(*) FROM decisioning.decisions d GROUP BY 1, 2) a,
                      (SELECT o.goal, count(*), sum(o.value) FROM decisioning.outcomes o GROUP BY 1) b")
units=$(milliseconds "SELECT count(*) FROM (SELECT s.campaign, s.treatment_group, count(*) FROM decisioning._assignment s GROUP BY 1, 2) a,
                      (SELECT s.treatment_group, count(DISTINCT o.customer_id) FROM decisioning.outcomes o JOIN decisioning._assignment s ON s.customer_id = o.customer_id GROUP BY 1) b")
lift=$(milliseconds "SELECT count(*) FROM decisioning.lift")
balance=$(milliseconds "SELECT count(*) FROM decisioning.group_balance")
daily=$(milliseconds "SELECT count(*) FROM decisioning.lift_daily")
psql -XqAt -c 'DELETE FROM decisioning._insights_found'
unkept=$(milliseconds "SELECT length(decisioning.report('c'))" 2>/dev/null)
psql -XqAt -c "INSERT INTO decisioning._insights_found SELECT 'c', '2026-01-20', coalesce(jsonb_agg(to_jsonb(i)), '[]') FROM decisioning.insights('c') i WHERE i.confirmed" 2>/dev/null
report=$(milliseconds "SELECT length(decisioning.report('c'))")
size=$(psql -XqAt -c "SELECT (SELECT count(*) FROM decisioning.decisions), (SELECT count(*) FROM decisioning.outcomes)")
awk -v p="$plain" -v u="$units" -v l="$lift" -v b="$balance" -v d="$daily" -v r="$report" -v k="$unkept" -v size="$size" 'BEGIN {
  split(size, n, "|")
  printf "%d decisions, %d outcomes: plain count %.0f ms; over the rows that lift reads %.0f ms\n", n[1], n[2], p, u
  printf "lift %.0f ms, group_balance %.0f ms, lift_daily %.0f ms, report %.0f ms (looking for insights, too: %.0f ms)\n", l, b, d, r, k
  printf "against the count over the same rows %.2f\n", (l + b) / u
  printf "lift ratio %.3f\n", (l + b) / p }'
