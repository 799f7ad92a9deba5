#!/usr/bin/env bash
# decide_all against Vowpal Wabbit on the same customers and actions: its native driver, which reads text and writes scores, and
# its Python predict with the same rows logged by COPY. Ours also guards, reserves and logs. In turn, on a cluster of their own.
#
#   CUSTOMERS=50000 benches/predict.sh
source "$(dirname "$0")/lib.sh"
source benches/learning/venv.sh
customers=${CUSTOMERS:-50000}

bench_cluster predict -c shared_buffers=1GB -c max_wal_size=8GB -c autovacuum=off -c synchronous_commit=off
bench_campaign "$customers"
"$python" benches/predict.py "$work"
