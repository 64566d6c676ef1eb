#!/usr/bin/env bash
# Fails when a type name is declared twice in `src`, in test modules too, and prints where: a name that has
# two meanings must be read twice. Associated types are not counted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustfmt has been run on these files: a block ends at a `}` with the indentation of its start.
find src -name '*.rs' -print0 | sort -z | xargs -0 awk '
    FNR == 1 { split("", is_open) }
    { indentation = match($0, /[^ ]|$/) - 1 }
    /^ *}/ { delete is_open[indentation] }
    /^ *(unsafe )?(impl|(pub(\([a-z: ]+\))? )?trait)[ <]/ && !/}$/ { is_open[indentation] = 1 }
    /^ *(pub(\([a-z: ]+\))? )?(unsafe )?(struct|enum|union|trait|type) [A-Z]/ {
        declaration = $0
        sub(/^ *(pub(\([a-z: ]+\))? )?(unsafe )?/, "", declaration)
        split(declaration, word, " ")
        if (word[1] == "type" && (indentation - 4) in is_open) next
        name = word[2]
        sub(/[^A-Za-z0-9_].*/, "", name)
        places[name] = places[name] sprintf("  %s:%d\n", FILENAME, FNR)
        count[name]++
    }
    END {
        for (name in count) if (count[name] > 1) {
            repeated = repeated name "\n" places[name]
        }
        if (repeated != "") {
            printf "error: type names that are declared more than once:\n%s", repeated
            exit 1
        }
    }
'
