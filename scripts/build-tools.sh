#!/bin/bash
# Installs what building needs beside Rust itself: a C compiler, which links and compiles the C
# libraries inside some crates (TLS, Zstandard), and Rust's formatter and linter.
#
# usage: scripts/build-tools.sh
#
# Runs again in no time: what is there already is left alone.
set -euo pipefail

die() { echo "build-tools: error: $1" >&2; shift; printf '  hint: %s\n' "$@" >&2; exit 1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "root is needed for: $*" "install sudo, or run that command as root, then run this script again"; fi
}

# a shell that was opened before Rust was installed does not know the place yet
[ -n "$(command -v cargo)" ] || die "there is no \`cargo\` here" "install Rust with rustup, or open a new shell if you just did"

echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || {
  command -v apt-get >/dev/null || die "there is no C compiler here" "install one so that \`cc\` compiles and links a program"
  echo "build-tools: installing a C compiler"
  install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null; }
  # a fresh machine or container has no package lists, an old one may have stale ones
  install 2>/dev/null || { as_root apt-get update -qq && install; } \
    || die "apt-get could not install gcc and libc6-dev" "read apt's message above; then run this script again"
}

for component in fmt clippy; do
  if ! cargo "$component" --version >/dev/null 2>&1; then
    command -v rustup >/dev/null || die "there is no \`cargo $component\` here" "install the package of your system that has it"
    echo "build-tools: installing the Rust component $component"
    rustup component add "${component/#fmt/rustfmt}"
  fi
done
