#!/usr/bin/env bash
# What a decision costs as actions and features grow: decide() one by one through pgbench, and decide_all per decision.
#
#   CUSTOMERS=20000 SECONDS_EACH=4 ACTIONS="3 24 100 300 1000" FEATURES="5 12 50 200" benches/curve.sh
source "$(dirname "$0")/lib.sh"
customers=${CUSTOMERS:-20000} seconds=${SECONDS_EACH:-4} actions=${ACTIONS:-3 24 100 300 1000} features=${FEATURES:-5 12 50 200}

bench_cluster curve -c shared_buffers=2GB -c max_wal_size=8GB -c autovacuum=off -c synchronous_commit=off
psql -Xq -c 'CREATE EXTENSION decisioning' -c 'CREATE SEQUENCE next'

# measure NAME ACTIONS FEATURES: a campaign of its own; offers are levels of one dimension, ten to a channel.
measure() {
  psql -XqAt -v ON_ERROR_STOP=1 -v name="$1" -v actions="$2" -v features="$3" -v customers="$customers" >/dev/null 2>&1 <<'SQL'
SELECT format('CREATE TABLE %I AS SELECT ''c-'' || n AS id, %s FROM generate_series(1, %s) n; ALTER TABLE %1$I ADD PRIMARY KEY (id);',
              :'name', string_agg(format('hashfloat8(n * %s) %% 1000 AS f%s', f, f), ', '), :customers)
FROM generate_series(1, :features) f \gexec
VACUUM ANALYZE;
SELECT decisioning.create_campaign(:'name', :'name', 'id', offer_consistency => NULL);
SELECT decisioning.add_action(:'name', 'a' || n, offer => 'o' || (n - 1) / 10, channel => 'c' || (n - 1) % 10)
FROM generate_series(1, :actions) n;
SELECT decisioning.approve_action(:'name', action) FROM decisioning.actions WHERE campaign = :'name';
SELECT decisioning.add_goal('buy') WHERE NOT EXISTS (SELECT FROM decisioning.goals);
SELECT decisioning.add_campaign_goal(:'name', 'buy'), decisioning.start_campaign(:'name');
ALTER SEQUENCE next RESTART;
SQL
  echo "SELECT decision_id FROM decisioning.decide('c-' || nextval('next'), '$1');" >"$work/decide.sql"
  local rate start left
  rate=$(pgbench -n -M prepared -f "$work/decide.sql" -c 1 -T "$seconds" 2>/dev/null | sed -nE 's/^tps = ([0-9.]+).*/\1/p')
  left=$((customers - $(psql -XAtc "SELECT count(*) FROM decisioning.decisions WHERE campaign = '$1'")))
  start=$(date +%s.%N)
  psql -Xq -c "CALL decisioning.decide_all('$1')" 2>/dev/null
  awk -v a="$2" -v f="$3" -v r="$rate" -v s="$start" -v e="$(date +%s.%N)" -v n="$left" 'BEGIN {
    printf "%4d actions, %3d features: decide %.2f ms, decide_all %.3f ms per decision\n", a, f, 1000 / r, 1000 * (e - s) / (n > 0 ? n : 1) }'
}

for a in $actions; do measure "actions_$a" "$a" 12; done
for f in $features; do measure "features_$f" 24 "$f"; done
