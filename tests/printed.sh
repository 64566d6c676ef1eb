#!/usr/bin/env bash
# `printed.sh RUN COMMAND…` runs suites by a command, `cargo test` and its arguments, and keeps all that
# they print below target/printed/RUN; then looks for credentials in it. RUN is `test` or `e2e`, which
# tells tests/printed.rs how much there must be. Fails where either fails, with what the command said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export LAYERPIN_PRINTED=$PWD/target/printed/$1
shift
rm -rf "$LAYERPIN_PRINTED"
mkdir -p "$LAYERPIN_PRINTED"

# What tests print that pass is kept and not shown, as without this script. Line by line: a run takes
# minutes, and awk would hold them back.
end='^(failures:$|test result:)'
hide_successes="/^successes:\$/,/$end/{/$end/!d}"
"$@" -- --show-output 2>&1 | tee "$LAYERPIN_PRINTED/output.log" | sed --unbuffered --regexp-extended "$hide_successes"

cargo test --locked --test printed
rm -rf "$LAYERPIN_PRINTED"
