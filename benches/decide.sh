#!/usr/bin/env bash
# decide() against a bare INSERT of the same row, both through pgbench, in turn, on a durable cluster of their own.
# Every call decides for another customer, so every call logs. Prints the rates, the 99th percentile, and the ratio.
#
#   SECONDS_EACH=10 CLIENTS="1 8" CUSTOMERS=1000000 benches/decide.sh
source "$(dirname "$0")/../scripts/lib.sh"
cd "$root"
seconds=${SECONDS_EACH:-10} clients=${CLIENTS:-1 8} customers=${CUSTOMERS:-1000000}

cluster=benches/decide.$$
trap 'scripts/cluster.sh remove "$cluster"; rm -rf "$work"' EXIT
work=$(mktemp -d)
scripts/cluster.sh start "$cluster" --durable -c shared_buffers=2GB -c max_wal_size=8GB -c autovacuum=off
eval "$(scripts/cluster.sh env "$cluster")"

say "customers: $customers, 12 features; actions: 24"
psql -XqAt -v ON_ERROR_STOP=1 -v customers="$customers" <<'SQL'
CREATE EXTENSION decisioning;
CREATE TABLE customers AS
SELECT 'c-' || n AS id, n % 90 AS age, n % 7 AS orders, (n % 1000)::float8 AS spend, n % 2 = 0 AS member, n % 3 = 0 AS app,
       n % 365 AS days, n % 11 AS visits, 'city ' || n % 9 AS city, 'tier ' || n % 4 AS tier, 'brand ' || n % 5 AS brand,
       'source ' || n % 6 AS source, n % 13 AS score
FROM generate_series(1, :customers) n;
ALTER TABLE customers ADD PRIMARY KEY (id);
ANALYZE customers;
CREATE SEQUENCE next CACHE 100;
SELECT decisioning.create_campaign('c', 'customers', 'id');
SELECT decisioning.add_action_grid('c', '{"message": ["a", "b", "c"], "offer": ["x", "y"], "channel": ["email", "sms"], "slot": ["morning", "evening"]}');
SELECT count(decisioning.approve_action('c', action)) FROM decisioning.actions;
SELECT decisioning.add_goal('buy'), decisioning.add_campaign_goal('c', 'buy'), decisioning.start_campaign('c');
-- The same columns and indexes as a partition of the log, outside of it.
SELECT decision_id FROM decisioning.decide('c-' || :customers, 'c');
CREATE TABLE plain AS SELECT * FROM decisioning.decisions;
ALTER TABLE plain ADD PRIMARY KEY (decision_id);
CREATE INDEX ON plain (customer_id, campaign, decided_at);
SQL
echo "SELECT decision_id FROM decisioning.decide('c-' || nextval('next'), 'c');" >"$work/decide.sql"
psql -XqAt >"$work/insert.sql" <<'SQL'
SELECT format('INSERT INTO plain VALUES (gen_random_uuid(), %s);', string_agg(coalesce(quote_literal(value), 'NULL'), ', ' ORDER BY n))
FROM plain p, unnest((string_to_array('customer_id campaign treatment_group action action_id propensity reason decided_at expires_at send_at origin ordinal overlap epoch model_version encoder_version candidates propensities encoded context content', ' '))) WITH ORDINALITY c(name, n),
     LATERAL (SELECT CASE name WHEN 'candidates' THEN candidates::text WHEN 'propensities' THEN propensities::text WHEN 'encoded' THEN encoded::text
                     ELSE to_jsonb(p) ->> name END AS value) v;
SQL

# rate SCRIPT CLIENTS: transactions per second and the 99th percentile in milliseconds.
rate() {
  (cd "$work" && rm -f log.* && pgbench -n -M prepared -f "$1.sql" -c "$2" -j 2 -T "$seconds" -l --log-prefix=log >"$1.out" 2>&1) || cat "$work/$1.out" >&2
  sed -nE 's/^tps = ([0-9.]+).*/\1/p' "$work/$1.out"
  sort -n -k3,3 "$work"/log.* -s | awk '{l[NR] = $3} END {printf "%.2f\n", l[int(NR * 0.99)] / 1000}'
}

for commit in on off; do
  psql -Xq -c "ALTER SYSTEM SET synchronous_commit = $commit" -c 'SELECT pg_reload_conf()' >/dev/null
  for c in $clients; do
    read -rd '' insert insert99 < <(rate insert "$c") || true
    read -rd '' decide decide99 < <(rate decide "$c") || true
    awk -v i="$insert" -v d="$decide" -v i9="$insert99" -v d9="$decide99" -v c="$c" -v s="$commit" 'BEGIN {
      printf "synchronous_commit %-3s %2d clients: insert %.0f/s (p99 %s ms), decide %.0f/s (p99 %s ms)\n", s, c, i, i9, d, d9
      printf "decide-%s-%d ratio %.3f\n", s, c, d / i }'
  done
done
