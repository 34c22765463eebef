#!/bin/bash
# Runs fuzz targets of dumpfmt: libFuzzer looks for inputs that break a promise of the library.
#
# usage: scripts/fuzz.sh SECONDS [TARGET]...      (default: every target, one after the other)
#
# FUZZ_SEED, a number, makes up the same inputs each time; without it they are others.
#
# What it finds on the way is kept in <target>/fuzz-corpus and taken up by the next run. An input that breaks something is
# written to <target>/fuzz-artifacts; run the target with it by `scripts/fuzz.sh 0 TARGET FILE`.
#
# Installs what it needs: cargo-fuzz and a C++ compiler. The sanitizer that watches memory is an unstable option of the
# compiler; RUSTC_BOOTSTRAP lets the stable one take it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_FUZZ=0.13.2
# Of what libFuzzer watches: an allocation by a length that a few bytes claim, memory that grows, work without an end. The
# last is told by the clock, and a machine may be busy with more than this.
LIMITS=(-malloc_limit_mb=32 -rss_limit_mb=512 -timeout=120)

die() { echo "fuzz: error: $1" >&2; shift; printf '  hint: %s\n' "$@" >&2; exit 1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "root is needed for: $*" "install sudo, or run that command as root, then run this script again"; fi
}

seconds=${1:-}
[[ $seconds =~ ^[0-9]+$ ]] || die "how many seconds each target is to run is missing" "usage: scripts/fuzz.sh SECONDS [TARGET]..."
shift
fuzz=$PWD/crates/dumpfmt/fuzz
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
input=()
if [ $# = 2 ] && [ -f "$2" ]; then input=("$2"); set -- "$1"; fi
targets=("$@")
[ $# -gt 0 ] || targets=(contents blocks folder rows rewrite write repair sql plain)
for name in "${targets[@]}"; do
  [ -f "$fuzz/fuzz_targets/$name.rs" ] || die "there is no target \`$name\`" "they are in crates/dumpfmt/fuzz/fuzz_targets"
done

echo 'int main() { return 0; }' | c++ -x c++ -o /dev/null - 2>/dev/null || {
  command -v apt-get >/dev/null || die "there is no C++ compiler here" "install one so that \`c++\` compiles and links a program"
  echo "fuzz: installing a C++ compiler"
  install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >/dev/null; }
  # a fresh machine or container has no package lists, an old one may have stale ones
  install 2>/dev/null || { as_root apt-get update -qq && install; } || die "apt-get could not install g++" "read apt's message above"
}
# Beside the target folder, so that it is neither the user's own nor in the way.
tools=$target/fuzz-tools
[ "$("$tools/bin/cargo-fuzz" --version 2>/dev/null)" = "cargo-fuzz $CARGO_FUZZ" ] || {
  echo "fuzz: installing cargo-fuzz $CARGO_FUZZ"
  cargo install --quiet --locked --debug --root "$tools" --target-dir "$target/fuzz-tools/build" "cargo-fuzz@$CARGO_FUZZ"
  rm -rf "$tools/build"
}

# What is set for the rest of the workspace does not hold here.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target/fuzz
# Memory that was freed is watched too, but not so much of it that the limit is met.
export ASAN_OPTIONS=detect_odr_violation=0:quarantine_size_mb=16:detect_leaks=0
"$tools/bin/cargo-fuzz" build --fuzz-dir "$fuzz"
triple=$(rustc -vV | sed -n 's/^host: //p')
for name in "${targets[@]}"; do
  program=$CARGO_TARGET_DIR/$triple/release/$name
  if [ ${#input[@]} -gt 0 ]; then
    "$program" "${LIMITS[@]}" "${input[@]}"
    continue
  fi
  mkdir -p "$target/fuzz-corpus/$name" "$target/fuzz-artifacts/$name"
  seeds=("$fuzz/seeds/archives")
  case $name in rows | write | plain) seeds=("$fuzz/seeds/$name") ;; esac
  # as the longest seed, a tar
  longest=20480
  echo "fuzz: $name, $seconds seconds"
  "$program" "${LIMITS[@]}" -seed="${FUZZ_SEED:-0}" -max_total_time="$seconds" -max_len=$longest -print_final_stats=1 -verbosity=0 \
    -dict="$fuzz/dictionary" -artifact_prefix="$target/fuzz-artifacts/$name/" "$target/fuzz-corpus/$name" "${seeds[@]}" \
    || die "the target $name found an input that breaks a promise" \
      "see it above, and run the target with that input: scripts/fuzz.sh 0 $name FILE" \
      "when it is repaired, put the input into crates/dumpfmt/fuzz/seeds, and a test of its own into crates/dumpfmt/tests"
done
