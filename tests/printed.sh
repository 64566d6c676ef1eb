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

# What tests print that pass is kept and not shown, as without this script.
hide_successes='
    /^successes:$/ { hidden = 1 }
    /^failures:$/ || /^test result:/ { hidden = 0 }
    !hidden { print; fflush() }'
"$@" -- --show-output 2>&1 | tee "$LAYERPIN_PRINTED/output.log" | awk "$hide_successes"

cargo test --locked --test printed
rm -rf "$LAYERPIN_PRINTED"
