#!/usr/bin/env bash
# dispatch_all of a whole audience against INSERT … SELECT of the same rows into a table with the same columns and indexes, in turn;
# then claims of these sends by one worker and by eight, a hundred at a time, on a durable cluster of their own.
#
#   CUSTOMERS=300000 benches/dispatch.sh
source "$(dirname "$0")/lib.sh"
customers=${CUSTOMERS:-300000}

bench_cluster dispatch -c shared_buffers=2GB -c max_wal_size=16GB -c autovacuum=off -c checkpoint_timeout=1h
bench_campaign "$customers"
clock="SET decisioning.simulated_now = '2026-06-01 09:00+00'"
# Everything is due at once, under a cap and quiet hours, as there would be.
psql -XqAt -v ON_ERROR_STOP=1 <<SQL
$clock;
SET client_min_messages = error;
SELECT FROM (SELECT count(decisioning.pause_action('c', action)) FROM decisioning.actions WHERE slot = 'evening') a;
UPDATE decisioning.campaigns SET holdout_share = 0, explore_share = 1, explore_no_send = 0, time_zone = 'UTC', fallback_time_zone = 'UTC';
SELECT decisioning.add_frequency_cap(2, '7 days', 'c'), decisioning.set_quiet_hours('21:00', '08:00', 'c'), decisioning.set_delivery('*', 'claimed');
CALL decisioning.decide_all('c');
CREATE TABLE plain_sends (LIKE decisioning.sends INCLUDING INDEXES);
ANALYZE;
SQL

# timed SQL: seconds that one session takes.
timed() {
  psql -Xq -c CHECKPOINT
  local start
  start=$(date +%s.%N)
  psql -XqAt -v ON_ERROR_STOP=1 -c "$clock" -c "$1" >/dev/null 2>"$work/notices" || { cat "$work/notices" >&2 && return 1; }
  awk -v s="$start" -v e="$(date +%s.%N)" 'BEGIN { printf "%.2f", e - s }'
}

dispatch=$(timed "CALL decisioning.dispatch_all('c')")
queued=$(psql -XqAt -c "SELECT count(*) FROM decisioning.sends WHERE status = 'queued'")
((queued == customers)) || die "$queued sends queued for $customers customers"
insert=$(timed 'INSERT INTO plain_sends SELECT * FROM decisioning.sends')
awk -v d="$dispatch" -v i="$insert" -v n="$queued" 'BEGIN {
  printf "dispatch_all: %d sends in %.1f s, %.0f sends/s; INSERT … SELECT: %.1f s\n", n, d, n / d, i
  printf "dispatch-all ratio %.3f\n", d / i }'

echo "SELECT count(*) FROM decisioning.claim_sends(batch_size => 100);" >"$work/claim.sql"
for workers in 1 8; do
  claims=$((customers / 400 / workers))
  PGOPTIONS="-c decisioning.simulated_now=2026-06-01T09:00Z" pgbench -n -c "$workers" -j 2 -t "$claims" -f "$work/claim.sql" >"$work/out" 2>&1 ||
    { cat "$work/out" >&2 && die "claims failed"; }
  awk -v w="$workers" '/^tps/ { t = $3 } /^latency average/ { l = $4 } END {
    printf "claim_sends, a hundred at a time, %d workers: %.0f sends/s, %.1f ms each\n", w, 100 * t, l }' "$work/out"
done
