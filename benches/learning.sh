#!/usr/bin/env bash
# Learning quality: the installed extension in simulated campaigns, driven through SQL only, beside Vowpal Wabbit and MABWiser on the
# same worlds in the same run. The peers go into a venv of their own, target/venv-learning. Takes hours; see --help for parts of it.
#
#   benches/learning.sh bandit [--help]     classification sets and, with HILLSTROM=path, a replay: bandits on real data
#   benches/learning.sh [--seeds 10 11 12 13 14] [--per-day 2000 10000] [--worlds marketing returning many value] [--jobs 2]
source "$(dirname "$0")/../scripts/lib.sh"
cd "$root"

source benches/learning/venv.sh

cluster=benches/learning.$$
trap 'scripts/cluster.sh remove "$cluster"' EXIT
scripts/cluster.sh start "$cluster" -c shared_buffers=1GB -c max_wal_size=8GB -c maintenance_work_mem=256MB
eval "$(scripts/cluster.sh env "$cluster")"
case ${1:-} in
bandit) shift && "$python" benches/learning/bandit.py "$@" ;;
*) "$python" benches/learning/run.py "$@" ;;
esac
