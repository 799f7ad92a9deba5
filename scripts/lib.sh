# shellcheck shell=bash
# What the scripts share. To be sourced, not run.
#
# Nothing but `make install` writes outside the checkout (and, for root, one folder under /var/tmp): the demo and the tests run
# on a private copy of the Postgres found, so an extension that is in use on this machine is never overwritten.

set -euo pipefail
umask 022 # root may have a stricter one, and the server's user has to read what root builds

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
target=$root/target
mkdir -p "$target"

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export USER=${USER:-$(id -un)} # pgrx reads it; CI runners may not set it
unset RUST_BACKTRACE RUST_LIB_BACKTRACE # servers would put backtraces into DETAIL
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA PGSSLMODE CARGO_TARGET_DIR

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

is_root() { [[ $EUID -eq 0 ]]; }

as_root() {
  if is_root; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root: $* (run it as root, or install sudo)"
  fi
}

# Postgres refuses to run as root; for root the distribution's user does it. From /, which every user can enter.
as_server() {
  if is_root; then
    (cd / && exec runuser -u postgres -- "$@")
  else
    "$@"
  fi
}

# --- which Postgres ---------------------------------------------------------------------------------------------------------

pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# Is there a server and its headers behind this pg_config, of a version the extension supports?
pg_usable() {
  [[ -x $1 && -x $("$1" --bindir)/postgres && -f $("$1" --includedir-server)/postgres.h ]] &&
    (($(pg_major "$1") >= 14 && $(pg_major "$1") <= 18))
}

# PG_CONFIG if the user gave one; else the newest usable of the distribution; else the one on PATH. Prints nothing if none is.
find_pg_config() {
  local candidate
  if [[ -n ${PG_CONFIG:-} ]]; then
    candidate=$(command -v "$PG_CONFIG") || die "PG_CONFIG=$PG_CONFIG: no such program"
    pg_usable "$candidate" || die "PG_CONFIG=$PG_CONFIG: no Postgres 14 to 18 with its server headers behind it"
    realpath "$candidate"
    return
  fi
  while read -r candidate; do
    if pg_usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done < <(printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -rV; command -v pg_config)
}

need_pg_config() {
  pg_config=$(find_pg_config)
  [[ -n $pg_config ]] || die "no Postgres with server headers found: run 'make setup', or pass PG_CONFIG=/path/to/pg_config"
  # shellcheck disable=SC2034 # for the scripts that source this
  pg_feature=pg$(pg_major "$pg_config")
}

# --- where servers live -----------------------------------------------------------------------------------------------------

# target/, or for root in a checkout which the server's user cannot enter, a folder under /var/tmp named in target/run-dir.
run_dir() {
  local dir
  if as_server test -x "$target"; then
    echo "$target"
    return
  fi
  dir=$(cat "$target/run-dir" 2>/dev/null) || true
  if [[ ! -d $dir ]]; then
    dir=$(mktemp -d /var/tmp/decisioning-XXXXXX)
    chmod 755 "$dir"
    echo "$dir" >"$target/run-dir"
  fi
  echo "$dir"
}

# private_pg NAME: makes (once) a private copy of the Postgres behind $pg_config and prints the path of the copy's own pg_config.
# Postgres finds its libraries and SQL files relative to its binaries, so copies of the binaries beside links to the rest are a
# whole installation, into which anybody may install.
private_pg() {
  local home bindir libdir sharedir headers stamp dirs dir binary
  home=$(run_dir)/$1
  bindir=$("$pg_config" --bindir) libdir=$("$pg_config" --pkglibdir)
  sharedir=$("$pg_config" --sharedir) headers=$("$pg_config" --includedir-server)
  stamp="$bindir $(stat -c %Y "$bindir/postgres")"
  (
    flock 9
    if [[ $(cat "$home/stamp" 2>/dev/null) != "$stamp" ]]; then
      rm -rf "$home"
      # A prefix of its own holds everything (libpq too); a distribution scatters it over several folders under /usr.
      if [[ $bindir == /usr/* ]]; then dirs=("$libdir" "$sharedir" "$headers"); else dirs=("${bindir%/bin}"); fi
      for dir in "${dirs[@]}"; do
        mkdir -p "$home$dir"
        cp -as "$dir/." "$home$dir"
      done
      mkdir -p "$home$bindir"
      for binary in "$bindir"/{postgres,psql,initdb,pg_*,pgbench,{create,drop}{db,user}}; do
        cp -L --remove-destination "$binary" "$home$bindir"
      done
      rm -f "$home$libdir"/decisioning* "$home$sharedir"/extension/decisioning*
      [[ $("$home$bindir/pg_config" --sharedir) == "$home$sharedir" ]] || die "the Postgres of $pg_config cannot be relocated"
      echo "$stamp" >"$home/stamp"
    fi
  ) 9>"$target/.private-pg.lock"
  echo "$home$bindir/pg_config"
}

# pgrx_home NAME PG_CONFIG: a pgrx home of the project's own, so that cargo compiles against exactly this Postgres whatever
# ~/.pgrx says. Rewritten only when it changes, because cargo rebuilds everything when it does.
pgrx_home() {
  local config=$target/$1/config.toml wanted
  wanted=$(printf '[configs]\npg%s = "%s"' "$(pg_major "$2")" "$2")
  mkdir -p "$target/$1"
  if [[ $(cat "$config" 2>/dev/null) != "$wanted" ]]; then echo "$wanted" >"$config"; fi
  echo "$target/$1"
}
