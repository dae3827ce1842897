# What the scripts of the cluster for tests share: names, versions, places, and how they talk.
#
# Sourced, never run. Must change nothing on the machine by being sourced.
# shellcheck shell=bash disable=SC2034

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# Where what was built is kept, below one directory that may be deleted at any time.
cache=${WEFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weft}
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

# Handed down to the scripts that a script calls.
export WEFT_STEPS_SINCE=${WEFT_STEPS_SINCE:-$EPOCHSECONDS}
# One line for each step, with the seconds since the first script began.
step() { printf '\033[1m==> %4ss  %s\033[0m\n' "$((EPOCHSECONDS - WEFT_STEPS_SINCE))" "$*" >&2; }
die() { printf './dev cluster: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# One at a time does what the lock is named after, for as long as this shell lives: alone NAME
alone() {
    mkdir -p "$cache"
    exec 9>"$cache/$1.lock"
    flock 9
}

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
