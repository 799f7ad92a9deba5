#!/usr/bin/env bash
# decide() under two budgets that do not bind against decide() without, through pgbench, in turn, on a durable cluster of their
# own. Every call decides for another customer. Prints the rates and, last, the ratio at the largest number of clients.
#
#   SECONDS_EACH=10 CLIENTS="1 8" CUSTOMERS=300000 benches/budgets.sh
source "$(dirname "$0")/lib.sh"
seconds=${SECONDS_EACH:-10} clients=${CLIENTS:-1 8} customers=${CUSTOMERS:-300000}

bench_cluster budgets -c shared_buffers=2GB -c max_wal_size=8GB -c autovacuum=off -c synchronous_commit=off
bench_campaign "$customers"
psql -XqAt -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE SEQUENCE next CACHE 100;
UPDATE decisioning.actions SET cost_send = 0.01, cost_on_goal_share = 0.1 WHERE offer = 'x';
SQL
echo "SELECT decision_id FROM decisioning.decide('c-' || nextval('next'), 'c');" >"$work/decide.sql"

rate() { (cd "$work" && pgbench -n -M prepared -f decide.sql -c "$1" -j 2 -T "$seconds") | sed -nE 's/^tps = ([0-9.]+).*/\1/p'; }

for c in $clients; do
  without=$(rate "$c")
  psql -XqAt -c "SELECT decisioning.set_budget('c', 1e9), decisioning.set_budget('c', 1e9, unit => 'sends', dimension => 'offer', level => 'x')" >/dev/null
  with=$(rate "$c")
  psql -XqAt -c "SELECT decisioning.remove_budget('c', budget) FROM decisioning.budgets" >/dev/null
  awk -v o="$without" -v w="$with" -v c="$c" 'BEGIN {
    printf "%2d clients: without budgets %.0f/s, with two %.0f/s\n", c, o, w
    printf "budgets ratio %.3f\n", w / o }'
done
