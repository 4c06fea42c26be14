#!/usr/bin/env bash
# Compiles the library for aarch64 on a machine of another kind, and runs the tests of its CPU kernels under qemu:
# those of the portable instruction set, which is all that aarch64 has. Root on Debian installs what is missing;
# otherwise it wants gcc-aarch64-linux-gnu, g++-aarch64-linux-gnu and qemu-user. Arguments are filters of tests in
# place of those kernels'.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help)
    sed -n '2,5s/^# //p' "$0"
    exit ;;
esac

target=aarch64-unknown-linux-gnu
tools=(aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64)
missing() { for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || return 0; done; return 1; }
if missing && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user >/dev/null
fi
if missing; then
    echo "one of these is missing: ${tools[*]} (Debian: gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user)" >&2
    exit 1
fi
rustup target add "$target"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
export CARGO_INCREMENTAL=0
# Minutes of compilation weigh more here than those of a few kernels; an emulator takes a tenth of a processor's speed.
export PROPTEST_CASES="${PROPTEST_CASES:-16}"
[ $# -gt 0 ] || set -- backend::cpu embedding::
started=$SECONDS
cargo test --locked --target "$target" --lib --config profile.dev.opt-level=1 --config profile.dev.package.dlrm-bench.opt-level=1 -- "$@"
echo "aarch64 in $((SECONDS - started)) s"
