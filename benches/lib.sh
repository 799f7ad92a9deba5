# shellcheck shell=bash
# What the benchmarks share: a durable cluster of their own, `$work` for files, and the campaign of campaign.sql. To be sourced.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
cd "$root"

# bench_cluster NAME SETTING…
bench_cluster() {
  cluster=benches/$1.$$
  shift
  work=$(mktemp -d)
  chmod 755 "$work"
  trap 'scripts/cluster.sh remove "$cluster"; rm -rf "$work"' EXIT
  scripts/cluster.sh start "$cluster" --durable "$@"
  eval "$(scripts/cluster.sh env "$cluster")"
}

# bench_campaign CUSTOMERS
bench_campaign() {
  say "campaign c: $1 customers, 12 features, 24 actions"
  psql -XqAt -v ON_ERROR_STOP=1 -v customers="$1" -f benches/campaign.sql
}
