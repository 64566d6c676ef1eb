#!/usr/bin/env bash
# `printed.sh RUN COMMAND…` runs test suites with COMMAND (`cargo test …`), keeps their output in
# target/printed/RUN, and then searches it for credentials. RUN is `test` or `e2e` and tells tests/printed.rs how
# much output to expect. Fails if the tests or the search fail.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export LAYERPIN_PRINTED=$PWD/target/printed/$1
shift
rm -rf "$LAYERPIN_PRINTED"
mkdir -p "$LAYERPIN_PRINTED"

# The output of passed tests is kept but not shown. `sed` prints line by line; awk would buffer the lines of a
# run of minutes.
end='^(failures:$|test result:)'
hide_successes="/^successes:\$/,/$end/{/$end/!d}"
"$@" -- --show-output 2>&1 | tee "$LAYERPIN_PRINTED/output.log" | sed --unbuffered --regexp-extended "$hide_successes"

cargo test --locked --test printed
rm -rf "$LAYERPIN_PRINTED"
