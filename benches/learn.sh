#!/usr/bin/env bash
# learn on closed decisions that it has not seen, with an outcome for one in fifty, and again with nothing new.
#
#   CUSTOMERS=1000000 benches/learn.sh
source "$(dirname "$0")/lib.sh"
customers=${CUSTOMERS:-1000000}

bench_cluster learn -c shared_buffers=2GB -c max_wal_size=16GB -c autovacuum=off -c checkpoint_timeout=1h -c maintenance_work_mem=1GB
bench_campaign "$customers"
psql -XqAt -v ON_ERROR_STOP=1 >/dev/null 2>&1 <<'SQL'
SET decisioning.simulated_now = '2026-01-05 10:00+00';
SELECT decisioning.maintain();
CALL decisioning.decide_all('c');
SET decisioning.simulated_now = '2026-01-05 12:00+00';
SELECT decisioning.record_outcomes('buy', array_agg('e-' || d.customer_id), array_agg(d.customer_id))
FROM decisioning.decisions d WHERE hashtext(d.customer_id) % 50 = 0;
VACUUM ANALYZE;
SQL
# seconds SQL: of its second statement
seconds() {
  psql -XqAt -v ON_ERROR_STOP=1 -c CHECKPOINT -c "SET decisioning.simulated_now = '2026-01-20 10:00+00'" -c 'SELECT 1 FROM decisioning.models LIMIT 1' \
    -c '\timing on' -c "$1" | tee /dev/stderr | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
}
first=$(seconds "SELECT * FROM decisioning.learn('c')")
psql -Xq -c VACUUM # as autovacuum would have by the next time
again=$(seconds "SELECT * FROM decisioning.learn('c')")
awk -v f="$first" -v a="$again" -v n="$customers" 'BEGIN {
  printf "learn: %d decisions in %.1f s; with nothing new: %.1f ms\n", n, f / 1000, a
  printf "learn ratio %.3f\n", n / f * 1000 / 150000 }'
