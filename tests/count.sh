#!/usr/bin/env bash
# Prints the lines of code of `src` by folder: without blank lines, comments and what is compiled for tests
# alone. `count.sh COMMIT` counts another commit than the checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tree=.
if [[ $# -gt 0 ]]; then
    tree=$(mktemp -d)
    trap 'rm -rf "$tree"' EXIT
    git archive "$1" src | tar -x -C "$tree"
fi
cd "$tree"

# rustfmt has been run on these files: an item ends at `;`, or at a `}` with the indentation of its start.
find src -name '*.rs' -not -name tests.rs -print0 | sort -z | xargs -0 awk '
    FNR == 1 { test = "" }
    { indentation = substr($0, 1, match($0, /[^ ]|$/) - 1) }
    test == "" && /^ *#\[cfg\(test\)\]$/ { test = "starts"; outer = indentation; next }
    test == "starts" && /^ *#\[/ { next }
    test == "starts" { test = /[;}]$/ ? "" : "body"; next }
    test == "body" { if (indentation == outer && /^ *}/) test = ""; next }
    /^ *$/ || /^ *\/\// { next }
    {
        name = FILENAME
        sub(/^src\//, "", name)
        folder = name
        # src/rules.rs belongs to the folder src/rules.
        sub(/\.rs$/, "", folder)
        sub(/\/.*/, "", folder)
        lines[folder]++
        total++
    }
    END {
        for (folder in lines) printf "%7d  %s\n", lines[folder], folder | "sort -k1,1nr -k2"
        close("sort -k1,1nr -k2")
        printf "%7d  src\n", total
    }
'
