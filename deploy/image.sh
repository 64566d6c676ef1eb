#!/usr/bin/env bash
# Builds the container image: `image.sh NAME:TAG`. The content is built on this machine, and no other image is
# pulled. Needs Rust, CMake, a C compiler with a static C library (libc6-dev on Debian, glibc-static elsewhere),
# CA certificates, and buildah or podman.
#
#   PROFILE            cargo profile; `dev` is faster to build [default: release]
#   CA_BUNDLE          file with CA certificates [default: those of this machine]
#   CONTAINER_TOOL     build command, with options [default: buildah, else podman]
#   LAYERPIN_REVISION  commit, for a label and for `layerpin_build_info` [default: that of the checkout]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "error: $*" >&2
    exit 2
}

image=${1:?"the name of the image, such as registry.example.com/layerpin:0.1.0"}
profile=${PROFILE:-release}
first() {
    for candidate in "$@"; do
        if [[ -e $candidate ]] || { [[ $candidate != /* ]] && command -v "$candidate" >/dev/null; }; then
            echo "$candidate"
            return
        fi
    done
}
bundle=${CA_BUNDLE:-$(first /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem)}
[[ -n $bundle ]] || fail "this machine has no CA certificates: name a file as CA_BUNDLE"
grep -q -e '-----BEGIN CERTIFICATE-----' "$bundle" || fail "$bundle (CA_BUNDLE) holds no certificate in PEM"
read -ra tool <<<"${CONTAINER_TOOL:-$(first buildah podman)}"
[[ ${#tool[@]} -gt 0 ]] || fail "neither buildah nor podman is on PATH: install one, or name it as CONTAINER_TOOL"

export LAYERPIN_REVISION=${LAYERPIN_REVISION:-$(git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)}

# Only the program itself is linked statically, in a folder of its own: compiled dependencies are reused, and
# target/release does not change.
build=${CARGO_BUILD_BUILD_DIR:-${CARGO_TARGET_DIR:-$PWD/target}}
CARGO_BUILD_BUILD_DIR=$build "${CARGO:-cargo}" rustc --locked --profile "$profile" --target-dir "$build/image" \
    --package layerpin --bin layerpin -- -C target-feature=+crt-static -C strip=debuginfo
folder=$profile
[[ $profile != dev ]] || folder=debug

context=$build/image/context
rm -rf "$context"
mkdir -p "$context"
cp "$build/image/$folder/layerpin" "$context/layerpin"
cp "$bundle" "$context/ca-certificates.crt"
version=$("$context/layerpin" --version)
"${tool[@]}" build --file deploy/Containerfile --build-arg "VERSION=${version#layerpin }" \
    --build-arg "REVISION=$LAYERPIN_REVISION" --tag "$image" "$context"
