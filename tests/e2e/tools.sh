#!/usr/bin/env bash
# Prints the folder that holds kube-apiserver, kubectl and etcd for the end-to-end tests.
#
# $KUBEBUILDER_ASSETS is that folder where it is set. Otherwise kube-apiserver and kubectl are built
# from source in the version that kubernetes/go.mod names, once, into
# ${LAYERPIN_TOOLS:-target/e2e-tools}, and etcd is Debian's. Standard output is the folder and nothing
# else. Running this again, or twice at once, does no work twice.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
tools=(kube-apiserver kubectl etcd)

main() {
    if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
        holds_all "$KUBEBUILDER_ASSETS" ||
            fail "KUBEBUILDER_ASSETS is \`$KUBEBUILDER_ASSETS\`, which does not hold all of: ${tools[*]}" \
                "unset it to have them built here"
        (cd "$KUBEBUILDER_ASSETS" && pwd)
        return
    fi

    local version folder
    version=$(sed -nE 's/^(require)?[[:space:]]*k8s\.io\/kubernetes (v[0-9]+\.[0-9]+\.[0-9]+)( .*)?$/\2/p' \
        "$here/kubernetes/go.mod")
    [[ -n $version ]] || fail "$here/kubernetes/go.mod requires no version of k8s.io/kubernetes"
    folder=${LAYERPIN_TOOLS:-$repository/target/e2e-tools}
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)/kubernetes-$version-$(uname -m)

    if ! holds_all "$folder"; then
        mkdir -p "$folder"
        lock "$folder/.lock"
        holds_kubernetes "$folder" || build "$version" "$folder"
        holds_etcd "$folder" || link_etcd "$folder"
    fi
    echo "$folder"
}

holds_all() { holds_kubernetes "$1" && holds_etcd "$1"; }
holds_kubernetes() { [[ -x $1/kube-apiserver && -x $1/kubectl ]]; }
holds_etcd() { [[ -x $1/etcd ]]; }

# Held until this script ends; the commands it starts close descriptor 9, or one of them that stays
# behind would hold the lock for it.
lock() {
    command -v flock >/dev/null ||
        fail "flock is not installed, so two runs could not be kept apart" "install Debian's util-linux"
    exec 9>"$1"
    flock --nonblock 9 || { say "waiting for another run to finish"; flock 9; }
}

build() {
    local version=$1 folder=$2 minor new
    command -v go >/dev/null ||
        fail "go is not installed; it builds kube-apiserver and kubectl $version" \
            "install Go 1.24 or later, or set KUBEBUILDER_ASSETS to a folder that holds ${tools[*]}"

    say "building kube-apiserver and kubectl $version into $folder (some minutes the first time)"
    minor=${version#v1.}
    local flags="-s -w"
    flags+=" -X k8s.io/component-base/version.gitVersion=$version"
    flags+=" -X k8s.io/component-base/version.gitMajor=1"
    flags+=" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
    # Beside the folder's files and then renamed, so that a build cut short leaves nothing that looks whole.
    rm -rf "$folder"/.new.*
    new=$(mktemp -d "$folder/.new.XXXXXX")
    (
        cd "$here/kubernetes" &&
            # No cgo: no C compiler is needed, and the binaries run whatever libc is there.
            CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$new/" \
                k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
    ) >&2 9>&- || { rm -rf "$new"; fail "cannot build Kubernetes $version" "the messages of go are above"; }
    mv "$new/kube-apiserver" "$new/kubectl" "$folder/"
    rmdir "$new"
}

link_etcd() {
    local folder=$1
    if ! command -v etcd >/dev/null; then
        if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
            fail "etcd is not installed" "install Debian's etcd-server: sudo apt-get install etcd-server"
        fi
        say "installing Debian's etcd-server"
        (
            export DEBIAN_FRONTEND=noninteractive
            apt-get update && apt-get install --yes --no-install-recommends etcd-server
        ) >&2 9>&- || fail "cannot install etcd-server" "the messages of apt-get are above"
        hash -r
        command -v etcd >/dev/null || fail "etcd-server is installed, but etcd is not on PATH"
    fi
    ln -sfn "$(command -v etcd)" "$folder/etcd"
}

say() { echo "tools.sh: $1" >&2; }

fail() {
    echo "error: $1" >&2
    [[ $# -lt 2 ]] || echo "  help: $2" >&2
    exit 1
}

main "$@"
