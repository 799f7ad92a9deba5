#!/usr/bin/env bash
# resolve_identity online, against as many stored records as there are in a file of messy customers, through pgbench: latencies of
# somebody known by identifiers, known by what describes a person alone, and of somebody new, who is stored. After it, a run over
# changes: one record in a hundred edited, beside a full run over the same.
#
#   RECORDS=1000000 CUSTOMERS=file.csv CLIENTS="1 8" SECONDS_EACH=15 benches/identity_online.sh
source "$(dirname "$0")/lib.sh"
records=${RECORDS:-1000000} clients=${CLIENTS:-1 8} seconds=${SECONDS_EACH:-15}

bench_cluster identity-online -c shared_buffers=2GB -c max_wal_size=8GB -c autovacuum=off
file=${CUSTOMERS:-}
if [[ ! $file ]]; then
  file=$work/customers.csv
  python3 benches/identity/customers.py "$records" 42 "$file"
fi
columns=$(head -1 "$file" | tr -d '"\r')
psql -XqAt -v ON_ERROR_STOP=1 <<SQL
SET client_min_messages = warning;
CREATE EXTENSION decisioning;
CREATE TABLE people ($(sed 's/,/ text, /g' <<<"$columns") text);
\\copy people FROM '$file' (FORMAT csv, HEADER)
VACUUM ANALYZE people;
SELECT decisioning.add_source('file', 'people', key => 'unique_id', default_country => 'US',
       fields => '{"first_name": "given_name", "last_name": "family_name", "email": "email", "phone": "phone", "dob": "date_of_birth", "street": "street", "city": "city", "postcode": "postcode", "company": "company", "device_id": "device_id"}');
CALL decisioning.resolve_all();
-- What visitors show: of every fiftieth record.
CREATE TABLE shown AS
SELECT row_number() OVER () AS n,
       jsonb_strip_nulls(jsonb_build_object('email', email, 'phone', phone, 'device_id', device_id)) AS identifiers,
       jsonb_strip_nulls(jsonb_build_object('given_name', first_name, 'family_name', last_name, 'date_of_birth', dob, 'street', street,
                                            'city', city, 'postcode', postcode)) AS description
FROM people WHERE hashtext(unique_id) % 50 = 0 AND num_nonnulls(email, phone, device_id) > 0 AND num_nonnulls(first_name, last_name, dob) = 3;
CREATE UNIQUE INDEX ON shown (n);
CREATE SEQUENCE visitor;
SELECT format('%s records, %s customers', count(*), count(DISTINCT customer_id)) FROM decisioning.identity_map;
SQL
shown=$(psql -XqAt -c 'VACUUM ANALYZE' -c 'CHECKPOINT' -c 'SELECT max(n) FROM shown')

pick="\\set n random(1, $shown)"
printf '%s\n' "$pick" "SELECT decisioning.resolve_identity(identifiers) FROM shown WHERE n = :n;" >"$work/identifiers.sql"
printf '%s\n' "$pick" "SELECT decisioning.resolve_identity(identifiers || description) FROM shown WHERE n = :n;" >"$work/both.sql"
printf '%s\n' "$pick" "SELECT decisioning.resolve_identity(description) FROM shown WHERE n = :n;" >"$work/description.sql"
cat >"$work/new.sql" <<'SQL'
SELECT decisioning.resolve_identity(jsonb_build_object('device_id', 'visitor-' || nextval('visitor')));
SQL

worst=0
for c in $clients; do
  for script in identifiers both description new; do
    (cd "$work" && rm -f log.* && pgbench -n -M prepared -f "$script.sql" -c "$c" -j 2 -T "$seconds" -l --log-prefix=log >"$script.out" 2>&1) ||
      cat "$work/$script.out" >&2
    rate=$(sed -nE 's/^tps = ([0-9.]+).*/\1/p' "$work/$script.out")
    read -r p50 p99 < <(sort -n -k3,3 "$work"/log.* | awk '{l[NR] = $3} END {printf "%.2f %.2f\n", l[int(NR * 0.5)] / 1000, l[int(NR * 0.99)] / 1000}')
    printf '%2d clients, %-12s %7.0f/s, p50 %s ms, p99 %s ms\n' "$c" "$script:" "$rate" "$p50" "$p99"
    if [[ $c == 1 ]]; then worst=$(awk -v a="$worst" -v b="$p99" 'BEGIN {print (a > b ? a : b)}'); fi
  done
done

psql -XqAt <<'SQL'
SET client_min_messages = warning;
CALL decisioning.resolve_all();
\timing on
\echo nothing changed
CALL decisioning.resolve_all();
UPDATE people SET street = street || ' b' WHERE hashtext(unique_id) % 100 = 0;
\echo one record in a hundred changed
CALL decisioning.resolve_all();
\echo a full run
CALL decisioning.resolve_all(full => true);
SQL
echo "identity-online p99 $worst ms"
