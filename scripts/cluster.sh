#!/usr/bin/env bash
# A Postgres cluster of our own: own directory, unix socket only, superuser "postgres" without password. Touches no other cluster.
#
#   cluster.sh start DIR [--durable] [-c name=value ...]   create it if need be, start it if need be
#   cluster.sh standby DIR PRIMARY                         copy a running cluster, and start the copy as its hot standby
#   cluster.sh env DIR                                     shell lines that point libpq and PATH at it, for eval
#   cluster.sh psql DIR [psql arguments]
#   cluster.sh stop DIR
#   cluster.sh remove DIR                                  stop, and delete
#   cluster.sh clean                                       remove the demo's cluster and all that tests left under target/
#
# A relative DIR lies under target/ (see run_dir in lib.sh). Without --durable a crash of the machine may lose the data: for
# tests. Settings given with -c are written at creation.
source "$(dirname "$0")/lib.sh"

usage() {
  sed -nE '2,/^[^#]/s/^# ?//p' "$0" >&2
  exit 2
}
[[ ${1:-} == clean ]] || (($# >= 2)) || usage
command=$1 dir=${2:-}
shift $(($# < 2 ? $# : 2))
run=$(run_dir)
[[ $dir == /* ]] || dir=$run/$dir

need_pg_config
bin=$(private_pg pg)
bin=${bin%/pg_config}

# Socket paths have a limit of 107 bytes, so the socket lies in a short folder of its own. Only the server's user and root get in:
# whoever reaches the socket is superuser.
socket_dir() { cat "${1:-$dir}/socket" 2>/dev/null || true; }

make_directory() {
  if [[ ! -d $dir ]]; then
    mkdir -p "$dir"
    if is_root; then chown postgres: "$dir"; fi
  fi
}

is_running() { as_server "$bin/pg_ctl" status -D "$dir/data" >/dev/null 2>&1; }

start() {
  local socket durable='' settings=("listen_addresses = ''" 'port = 5432' "timezone = 'UTC'" "log_timezone = 'UTC'")
  while (($#)); do
    case $1 in
    --durable) durable=yes ;;
    -c) settings+=("${2%%=*} = '${2#*=}'") && shift ;;
    *) usage ;;
    esac
    shift
  done
  [[ $durable ]] || settings+=('fsync = off' 'synchronous_commit = off' 'full_page_writes = off')
  if is_running; then return; fi

  if [[ ! -f $dir/data/PG_VERSION ]]; then
    make_directory
    as_server "$bin/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 ||
      die "initdb failed: $(cat "$dir/initdb.log")"
    printf '%s\n' "${settings[@]}" >>"$dir/data/postgresql.conf"
  fi
  socket=$(socket_dir)
  if [[ ! -d $socket ]]; then
    socket=$(as_server mktemp -d /tmp/decisioning-XXXXXX)
    echo "$socket" >"$dir/socket"
  fi
  as_server "$bin/pg_ctl" start -w -t 120 -D "$dir/data" -l "$dir/log" -o "-k $socket" >/dev/null ||
    die "the server did not start: $(tail -20 "$dir/log")"
}

standby() {
  local primary=$1
  [[ $primary == /* ]] || primary=$run/$primary
  make_directory
  as_server "$bin/pg_basebackup" -h "$(socket_dir "$primary")" -U postgres -D "$dir/data" -R -X stream -c fast --no-sync
  start
}

stop() {
  local socket
  socket=$(socket_dir)
  if is_running; then as_server "$bin/pg_ctl" stop -w -m fast -D "$dir/data" >/dev/null; fi
  if [[ $socket == /tmp/decisioning-* ]]; then rm -rf "$socket"; fi
}

# Only what start made: DIR may be the user's.
remove() {
  stop
  rm -rf "$dir"/{data,log,socket,initdb.log}
  if [[ -d $dir ]]; then rmdir --ignore-fail-on-non-empty "$dir"; fi
}

clean() {
  for dir in "$run"/demo "$run"/tests/*; do
    if [[ -d $dir ]]; then remove; fi
  done
  if [[ $run != "$target" ]]; then rm -rf "$run" "$target/run-dir"; fi
}

environment() {
  is_running || die "no server is running in $dir"
  # shellcheck disable=SC2016 # $PATH is for the shell that evaluates this
  printf 'export PGHOST=%q PGPORT=5432 PGUSER=postgres PGDATABASE=postgres PATH=%q:"$PATH"\n' "$(socket_dir)" "$bin"
}

case $command in
start) start "$@" ;;
standby) (($# == 1)) || usage; standby "$1" ;;
stop) stop ;;
env) environment ;;
psql) eval "$(environment)" && exec psql "$@" ;;
remove) remove ;;
clean) clean ;;
*) usage ;;
esac
