#!/usr/bin/env bash
# Installs missing programs as Debian packages: `packages.sh COMMAND:PACKAGE…`. If not run as root, it lists the
# missing packages, and the tests that need them print `skipped`.
set -euo pipefail

missing=()
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
else
    echo "not installed: ${missing[*]}; tests that need them are skipped" >&2
    echo "install them with: apt-get install ${missing[*]}" >&2
fi
