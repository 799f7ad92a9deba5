#!/usr/bin/env bash
# learn with nothing new, on a log of many million decisions: copies of those of 20 000 customers under other ids.
#
#   LOG=10000000 benches/learn_nothing.sh
source "$(dirname "$0")/lib.sh"
log=${LOG:-10000000} customers=20000

bench_cluster learn_nothing -c shared_buffers=2GB -c max_wal_size=16GB -c autovacuum=off -c checkpoint_timeout=1h -c synchronous_commit=off -c maintenance_work_mem=1GB
bench_campaign "$customers"
say "a log of $log decisions"
psql -XqAt -v ON_ERROR_STOP=1 -v copies="$((log / customers - 1))" >/dev/null 2>&1 <<'SQL'
SET decisioning.simulated_now = '2026-01-05 10:00+00';
SELECT decisioning.maintain();
CALL decisioning.decide_all('c');
SET decisioning.simulated_now = '2026-01-05 12:00+00';
SELECT decisioning.record_outcomes('buy', array_agg('e-' || d.customer_id), array_agg(d.customer_id))
FROM decisioning.decisions d WHERE hashtext(d.customer_id) % 50 = 0;
SET decisioning.simulated_now = '2026-01-20 10:00+00';
SELECT * FROM decisioning.learn('c');
CREATE TEMP TABLE learned AS SELECT * FROM decisioning.decisions;
INSERT INTO decisioning.decisions
SELECT (overlay(d.decision_id::text PLACING left(md5(d.customer_id || n), 12) FROM 25 FOR 12))::uuid AS decision_id, d.customer_id || '-' || n AS customer_id,
       d.campaign, d.treatment_group, d.action, d.action_id, d.propensity, d.reason, d.decided_at, d.expires_at, d.send_at, d.origin, d.ordinal,
       d.overlap, d.epoch, d.model_version, d.encoder_version, d.candidates, d.propensities, d.encoded, d.context
FROM learned d, generate_series(1, :copies) n;
UPDATE decisioning._learner SET decisions = n, linearised = n FROM (SELECT count(*) AS n FROM decisioning.decisions) AS d;
VACUUM ANALYZE;
SQL
times=$(psql -XqAt -v ON_ERROR_STOP=1 -c "SET decisioning.simulated_now = '2026-01-20 10:00+00'" -c 'SELECT 1 FROM decisioning.models LIMIT 1' \
  -c '\timing on' -c "SELECT * FROM decisioning.learn('c')" -c "SELECT * FROM decisioning.learn('c')" | tee /dev/stderr | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p')
read -rd '' first again <<<"$times" || true
awk -v f="$first" -v a="$again" -v n="$(psql -XqAt -c 'SELECT decisions FROM decisioning._learner')" 'BEGIN {
  printf "learn with nothing new, %d decisions in the log: %.1f ms, again %.1f ms\n", n, f, a
  printf "learn-nothing ratio %.3f\n", 50 / f }'
