#!/usr/bin/env bash
# decide_all over a whole audience against INSERT … SELECT of the same rows into a table with the same columns and indexes, in
# turn, on a durable cluster of their own. Also prints how much memory of its own the deciding backend has grown to.
#
#   CUSTOMERS=1000000 benches/decide_all.sh
source "$(dirname "$0")/lib.sh"
customers=${CUSTOMERS:-1000000}

bench_cluster decide_all -c shared_buffers=2GB -c max_wal_size=16GB -c autovacuum=off -c checkpoint_timeout=1h
bench_campaign "$customers"

# timed SQL: seconds that one session takes, and the peak of its private memory in MB.
timed() {
  psql -Xq -c CHECKPOINT
  local peak=0 size backend start
  start=$(date +%s.%N)
  psql -XqAt -v ON_ERROR_STOP=1 -c "SELECT pg_backend_pid()" -c "$1" >"$work/pid" 2>"$work/notices" &
  while kill -0 $! 2>/dev/null; do
    backend=$(head -1 "$work/pid" 2>/dev/null) || true
    size=$(sed -nE 's/^RssAnon:\s+([0-9]+) kB/\1/p' "/proc/${backend:-none}/status" 2>/dev/null) || true
    if ((${size:-0} > peak)); then peak=$size; fi
    sleep 0.2
  done
  wait $! || { cat "$work/notices" >&2 && return 1; }
  awk -v s="$start" -v e="$(date +%s.%N)" -v p="$peak" 'BEGIN { printf "%.2f %.0f\n", e - s, p / 1024 }'
}

read -r decide memory < <(timed "CALL decisioning.decide_all('c')")
decided=$(psql -XqAt -c 'SELECT count(*) FROM decisioning.decisions')
[[ $decided == "$customers" ]] || die "$decided decisions for $customers customers"
read -r insert _ < <(timed 'INSERT INTO plain SELECT * FROM decisioning.decisions')
awk -v d="$decide" -v i="$insert" -v n="$customers" -v m="$memory" 'BEGIN {
  printf "decide_all: %d customers in %.1f s, %.0f decisions/s, %d MB; INSERT … SELECT: %.1f s\n", n, d, n / d, m, i
  printf "decide-all ratio %.3f\n", d / i }'
