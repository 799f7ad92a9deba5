#!/usr/bin/env bash
# Runs the demo on a cluster that stays up afterwards, to go on playing. Each run starts from an empty database "demo".
source "$(dirname "$0")/lib.sh"
cluster=$root/scripts/cluster.sh

"$cluster" start demo --durable
eval "$("$cluster" env demo)"
dropdb --if-exists --force demo
createdb demo

"$target/venv/bin/python" "$root/demo/demo.py" --dsn "host=$PGHOST port=$PGPORT user=$PGUSER dbname=demo" --report "$target/report.html" "$@"

cat <<END

The demo's server is still running. To go on playing:  scripts/cluster.sh psql demo -d demo
To stop and delete it:                                 make clean-cluster
END
