# What the scripts of the cluster for tests share: names, versions and places.
#
# Sourced, never run. Must change nothing on the machine by being sourced.
# shellcheck shell=bash disable=SC2034,SC2154

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
command_name=cluster
. "$root/e2e/steps.sh"
bin=$cache/bin
# What is true of this machine until it is started again.
state=/run/weft-kind
# Descriptions and kubeconfigs of clusters.
descriptions=$root/target/kind

kubernetes=v1.34.4
# The published image of the same minor version, for machines that reach a registry.
published=kindest/node:v1.34.3
agnhost=weft-agnhost:$kubernetes
base=weft-base:bookworm

need_root() {
    [ "$(id -u)" = 0 ] || die "root is needed for the router's links and rules: sudo --preserve-env env \"PATH=\$PATH\" ./dev cluster ..."
}

# A cluster's name becomes part of container, file and network names.
check_name() {
    [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] || die "--name $1: up to 32 small letters, digits and hyphens, no hyphen at either end"
}

# The containers of a cluster's nodes, the control plane first.
containers() {
    docker ps --all --filter "label=io.x-k8s.kind.cluster=$1" --format '{{.Names}}' | sort
}

remove_cluster() {
    local found
    found=$(containers "$1")
    if [ -n "$found" ]; then
        step "Removing the cluster $1"
        # shellcheck disable=SC2086  # A line for each.
        docker rm --force --volumes $found >/dev/null
    fi
}
