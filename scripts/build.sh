#!/usr/bin/env bash
# The one release build: laid out under target/package as it will lie under /, and placed into the private Postgres on which the
# demo and the tests run. With --install, placed into the user's own Postgres instead.
source "$(dirname "$0")/lib.sh"
need_pg_config
cd "$root"

# place PREFIX COMMAND…: install(1) unlinks first, so running servers keep the library they have mapped.
place() {
  local prefix=$1 files file
  shift
  mapfile -t files < <(cd target/package && find . -type f -printf '%P\n')
  for file in "${files[@]}"; do
    "$@" install -D -m 644 "target/package/$file" "$prefix/$file"
  done
}

say "building for $("$pg_config" --version)"
rm -rf target/package
PGRX_HOME=$(pgrx_home pgrx "$pg_config")
export PGRX_HOME
cargo pgrx package --pg-config "$pg_config" --no-default-features --features "$pg_feature" --out-dir target/package

libdir=$("$pg_config" --pkglibdir) sharedir=$("$pg_config" --sharedir)
if [[ ${1:-} == --install ]]; then
  if [[ -w $libdir && -w $sharedir/extension ]]; then place "" env; else place "" as_root; fi
  say "installed into $libdir and $sharedir/extension; in psql: CREATE EXTENSION decisioning;"
else
  private=$(private_pg pg)
  home=${private%"$("$pg_config" --bindir)/pg_config"}
  rm -f "$home$sharedir"/extension/decisioning* # no stale upgrade scripts
  place "$home" env
fi
