#!/usr/bin/env bash
# Builds the programs of the cluster from their Go modules, each set once: binaries.sh SET...
#
# SET is a directory below go/; or conformance, which is Kubernetes' own suite of tests, from the modules of kubernetes.
# Owns $cache/go/SET-KEY, where KEY changes with all that the outcome depends on, and the links in $cache/bin.
# Must never fetch a program ready-made, nor write below the repository.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

version_flags() {
    local version='k8s.io/component-base/version' chart='helm.sh/helm/v3/pkg/chartutil'
    case $1 in
        kubernetes | conformance) printf '%s' "-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=34" ;;
        helm)
            printf '%s' "-X helm.sh/helm/v3/internal/version.version=$(module_version helm) "
            printf '%s' "-X $chart.k8sVersionMajor=1 -X $chart.k8sVersionMinor=34"
            ;;
    esac
}

# The version that the set's module file asks for of the module the set is named after.
module_version() {
    awk -v set="$1" '$1 == "require" { sub("require ", "") } $1 ~ "/" set "(/v[0-9]+)?$" { print $2; exit }' "$here/go/$1/go.mod"
}

# Where the set's modules are listed.
modules() { printf '%s' "$here/go/${1/#conformance/kubernetes}"; }

key() {
    { cat "$(modules "$1")"/*; go env GOVERSION GOARCH; version_flags "$1"; } | sha256sum | cut -c1-16
}

# compile SET DIRECTORY: in the directory of its modules.
compile() {
    local flags
    flags="-s -w $(version_flags "$1")"
    case $1 in
        conformance) nice go test -c -vet=off -p "$(nproc)" -trimpath -buildvcs=false -ldflags "$flags" -o "$2/e2e.test" k8s.io/kubernetes/test/e2e ;;
        *) nice go build -p "$(nproc)" -trimpath -buildvcs=false -ldflags "$flags" -o "$2/" tool ;;
    esac
}

# build SET
build() {
    local set=$1 place partial
    place=$cache/go/$set-$(key "$set")
    if [ ! -d "$place" ]; then
        step "Building $set with Go"
        partial=$place.partial
        mkdir -p "$partial"
        (
            cd "$(modules "$set")"
            export CGO_ENABLED=0 GOFLAGS=''
            compile "$set" "$partial"
        )
        mv -T "$partial" "$place"
    fi
    ln -sfnT "$place" "$cache/go/$set"
}

has go || die "go not found, and the cluster's programs are built with it: install golang-go with this system's package manager, or from go.dev"
mkdir -p "$cache/go" "$bin"
alone binaries
# What was interrupted.
rm -rf "$cache"/go/*.partial
for set; do
    build "$set"
done
for program in kubernetes/kubectl kubernetes/kubeadm helm/helm kind/kind; do
    if [ -e "$cache/go/$program" ]; then
        ln -sfn "../go/$program" "$bin/${program#*/}"
    fi
done
