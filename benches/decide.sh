#!/usr/bin/env bash
# decide() against a bare INSERT of the same row, both through pgbench, in turn, on a durable cluster of their own.
# Every call decides for another customer, so every call logs. Prints the rates, the 99th percentile, and the ratio.
#
#   SECONDS_EACH=10 CLIENTS="1 2 8 32" CUSTOMERS=1000000 benches/decide.sh
source "$(dirname "$0")/lib.sh"
seconds=${SECONDS_EACH:-10} clients=${CLIENTS:-1 2 8 32} customers=${CUSTOMERS:-1000000}

bench_cluster decide -c shared_buffers=2GB -c max_wal_size=8GB -c autovacuum=off
bench_campaign "$customers"
psql -XqAt -v ON_ERROR_STOP=1 -v customers="$customers" >/dev/null <<'SQL'
CREATE SEQUENCE next CACHE 100;
SELECT decision_id FROM decisioning.decide('c-' || :customers, 'c');
INSERT INTO plain SELECT * FROM decisioning.decisions;
SQL
echo "SELECT decision_id FROM decisioning.decide('c-' || nextval('next'), 'c');" >"$work/decide.sql"
psql -XqAt >"$work/insert.sql" <<'SQL'
SELECT format('INSERT INTO plain VALUES (gen_random_uuid(), %s);', string_agg(coalesce(quote_literal(v.value), 'NULL'), ', ' ORDER BY a.attnum))
FROM plain p, pg_attribute a,
     LATERAL (SELECT CASE WHEN a.atttypid::regtype::text ~ '\[\]$'
                          THEN translate(to_jsonb(p) ->> a.attname, '[]', '{}') ELSE to_jsonb(p) ->> a.attname END AS value) v
WHERE a.attrelid = 'plain'::regclass AND a.attnum > 1 AND NOT a.attisdropped;
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
    # Calls for customers who do not exist log nothing, and would be fast.
    (($(psql -XqAt -c 'SELECT last_value FROM next') < customers)) || die "all customers are decided for: raise CUSTOMERS or lower SECONDS_EACH"
    awk -v i="$insert" -v d="$decide" -v i9="$insert99" -v d9="$decide99" -v c="$c" -v s="$commit" 'BEGIN {
      printf "synchronous_commit %-3s %2d clients: insert %.0f/s (p99 %s ms), decide %.0f/s (p99 %s ms)\n", s, c, i, i9, d, d9
      printf "decide-%s-%d ratio %.3f\n", s, c, d / i }'
  done
done
