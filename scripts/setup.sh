#!/usr/bin/env bash
# Everything that building, demo and tests need, on Debian 12 or Ubuntu 24.04 with only Rust, git and Python 3. Installs only
# what is missing: a second run takes a second and no network. Needs root or sudo for the missing packages only.
source "$(dirname "$0")/lib.sh"

pgrx_version=0.18.1

# --- system packages --------------------------------------------------------------------------------------------------------

has_package() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# The server package creates and starts a cluster "main" by itself. Nobody asked us for one: off while we install, then as it was,
# also when the installation fails.
install_server() (
  conf=/etc/postgresql-common/createcluster.conf
  apt_install postgresql-common
  as_root cp -a "$conf" "$conf.decisioning"
  trap 'as_root mv "$conf.decisioning" "$conf"' EXIT
  echo 'create_main_cluster = false' | as_root tee -a "$conf" >/dev/null
  apt_install "postgresql-$1" "postgresql-server-dev-$1"
)

missing=()
command -v cc >/dev/null || missing+=(build-essential)
command -v pkg-config >/dev/null || missing+=(pkg-config)
command -v clang >/dev/null || missing+=(clang)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if is_root; then command -v sudo >/dev/null || missing+=(sudo); fi # `cargo pgrx test` calls it to leave root
# The report is looked at in a browser. Ubuntu has no package of one: there playwright fetches its own, below.
if ! command -v chromium >/dev/null && [[ $(. /etc/os-release 2>/dev/null && echo "${ID:-}") == debian ]]; then missing+=(chromium); fi
have_pgrx=$(cargo pgrx --version 2>/dev/null | grep -Fx "cargo-pgrx $pgrx_version" || true)
if command -v dpkg-query >/dev/null; then
  [[ -n ${LIBCLANG_PATH:-} ]] || has_package libclang-dev || missing+=(libclang-dev)
  [[ -n $have_pgrx ]] || has_package libssl-dev || missing+=(libssl-dev)
fi
pg_config=$(find_pg_config)

if [[ -z $pg_config || ${#missing[@]} -gt 0 ]]; then
  command -v apt-get >/dev/null ||
    die "no apt-get here; install by hand: ${missing[*]} $([[ $pg_config ]] || echo 'a PostgreSQL server with its development files')"
  say "installing packages: ${missing[*]} $([[ $pg_config ]] || echo PostgreSQL)"
  as_root apt-get update -q
  if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
  if [[ -z $pg_config ]]; then
    # What the metapackage depends on is the distribution's default version; a server that is there already wins.
    major=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | sed -nE 's|.*/([0-9]+)/bin/postgres$|\1|p' | tail -1)
    if [[ -n $major ]]; then
      apt_install "postgresql-server-dev-$major"
    else
      install_server "$(apt-cache depends postgresql | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p' | head -1)"
    fi
  fi
fi
need_pg_config

# A Postgres that did not come from the distribution brings no user for root to run it as.
if is_root && ! id postgres >/dev/null 2>&1; then
  useradd --system --no-create-home --home-dir /var/lib/postgresql --shell /bin/bash postgres
fi

# --- pgrx -------------------------------------------------------------------------------------------------------------------

command -v cargo >/dev/null || die "no cargo: install Rust first (rustup's default toolchain will do)"
if [[ -z $have_pgrx ]]; then
  say "installing cargo-pgrx $pgrx_version (5 to 10 minutes, once per machine)"
  cargo install --locked cargo-pgrx --version "$pgrx_version"
fi
# The scripts use pgrx homes under target/. This one is for cargo commands typed by hand; a version already known stays as it is.
if ! grep -q "^$pg_feature *=" "${PGRX_HOME:-$HOME/.pgrx}/config.toml" 2>/dev/null; then
  cargo pgrx init "--$pg_feature" "$pg_config" --no-run
fi

# --- Python -----------------------------------------------------------------------------------------------------------------

requirements=$root/scripts/requirements.txt
stamp=$(python3 --version; sha256sum <"$requirements")
if [[ $(cat "$target/venv/stamp" 2>/dev/null) != "$stamp" ]]; then
  say "installing the Python side into target/venv"
  python3 -m venv --clear "$target/venv"
  "$target/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
  echo "$stamp" >"$target/venv/stamp"
fi

if ! command -v chromium >/dev/null && [[ -z $(compgen -G "${PLAYWRIGHT_BROWSERS_PATH:-$HOME/.cache/ms-playwright}/chromium*") ]]; then
  say "installing a browser for the tests"
  as_root "$target/venv/bin/playwright" install-deps chromium
  "$target/venv/bin/playwright" install chromium
fi
