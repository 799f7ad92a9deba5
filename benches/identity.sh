#!/usr/bin/env bash
# Identity against Splink 5 on DuckDB: FEBRL 1 to 3 and messy customers of several sizes and seeds, each side on the same file.
# Ours by SQL alone, with default rules and threshold. Peers live in a venv of their own, target/venv-identity.
#
#   SETS="100000:42 100000:43 100000:44 1000000:42"   records and seed of each set of customers; empty for none
#   CUSTOMERS="a.csv b.csv"                           files to take instead (columns as of benches/identity/customers.py)
source "$(dirname "$0")/lib.sh"

python=target/venv-identity/bin/python
if [[ ! -f target/venv-identity/complete ]]; then
  python3 -m venv target/venv-identity
  target/venv-identity/bin/pip install --quiet -r benches/identity/requirements.txt
  touch target/venv-identity/complete
fi

bench_cluster identity -c shared_buffers=256MB -c max_wal_size=8GB -c autovacuum=off
"$python" benches/identity/febrl.py "$work"
files=("AU:$work/febrl1.csv" "AU:$work/febrl2.csv" "AU:$work/febrl3.csv")
for file in ${CUSTOMERS:-}; do
  files+=("US:$file")
done
if [[ ! ${CUSTOMERS:-} ]]; then
  for set in ${SETS-100000:42 100000:43 100000:44 1000000:42}; do
    file=$work/customers-${set/:/-}.csv
    say "customers: ${set%:*} records, seed ${set#*:}"
    "$python" benches/identity/customers.py "${set%:*}" "${set#*:}" "$file"
    files+=("US:$file")
  done
fi
"$python" benches/identity/compare.py "${files[@]}"
