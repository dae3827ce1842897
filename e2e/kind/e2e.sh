#!/usr/bin/env bash
# Runs the tests against a real cluster: ./dev e2e.
#
# Owns the order: cluster, image, tests, and the clusters of --all, which it takes away again. Must never take away a cluster
# that was there before, nor install Weft: the tests do that, as the README says.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

image=weft:dev
# What CI runs on every change: the journey of a request, who may speak for a node, when a node takes pods, what an outage
# costs, what people do to the release, its objects, Nodes and pools, and that nothing is left behind.
usual=(journey:: identity:: readiness:: outage:: hooks:: life:: local_dns:: nodes:: pools:: rendered:: replaced:: uninstall::)

all=false
if [ "${1:-}" = --all ]; then
    all=true
    shift
fi

need_docker() {
    docker version >/dev/null 2>&1 && return
    has docker && has dockerd && return
    has apt-get && return
    die "a cluster needs Docker, and there is none: install Docker and start it. Everything else is tested by ./dev test, without it"
}

# cluster NAME [OPTION...]: has it up; fails where one of that name is up with other options.
cluster() {
    local name=$1
    shift
    if ! "$here/status.sh" --name "$name" --quiet 2>/dev/null; then
        "$root/dev" cluster up --name "$name" "$@"
    fi
}

# Puts the image into every node; agents and controllers that run an earlier one are replaced.
load() {
    local name=$1 wanted running
    weft() { "$bin/kubectl" --kubeconfig "$descriptions/$name.kubeconfig" --namespace weft-system "$@"; }
    wanted=$(docker image inspect --format '{{.Id}}' "$image")
    running=$(weft get pods --selector app.kubernetes.io/name=weft --output json | jq -r '[.items[].status.containerStatuses[]?.imageID] | unique | join(" ")')
    [ "$running" != "$wanted" ] || return 0
    "$here/load.sh" --name "$name" "$image"
    [ -z "$running" ] || weft rollout restart deployment/weft-controller daemonset/weft-agent
}

# run NAME ARGUMENT...: the tests that the arguments name, against a cluster.
run() {
    local name=$1
    shift
    load "$name"
    step "Testing on $name"
    WEFT_KIND=$name "$tests" --ignored --nocapture --test-threads=1 "$@"
}

# other NAME OPTIONS TEST...: brings a cluster of its own up for some tests, and takes it away.
other() {
    local name=$1 options=$2 failed=0
    shift 2
    # shellcheck disable=SC2086  # Several options.
    cluster "$name" $options
    run "$name" "$@" || failed=1
    [ "$failed" = 0 ] || die "tests failed on $name, which is still up: ./dev cluster status --name $name"
    "$here/down.sh" --name "$name"
}

need_root
need_docker
cluster weft
step "Building the image $image"
"$root/dev" image
step "Building the tests"
tests=$(cargo test --quiet --locked --package weft-e2e --test kind --no-run --message-format=json |
    jq -r 'select(.reason == "compiler-artifact" and .target.name == "kind" and .executable) | .executable')
if [ $# = 0 ]; then
    step "Testing the chart"
    cargo test --quiet --locked --package weft-e2e --test chart -- --ignored
    step "Testing the controller against an API server of its own"
    cargo test --quiet --locked --package weft-controller --test kubernetes -- --ignored --test-threads=1
fi
if [ $# != 0 ]; then
    run weft "$@"
elif [ "$all" = false ]; then
    run weft "${usual[@]}"
else
    run weft --skip dual_stack:: --skip moved::
    other weft-dual '--ip-family dual --proxy-mode nftables' dual_stack:: journey:: services:: ports:: mtu:: same_subnet:: allocators:: listing:: firewall:: uninstall::
    other weft-theirs '--allocate-node-cidrs' allocators:: moved:: journey:: readiness:: uninstall::
fi
step "All tests passed; the cluster weft is still up: ./dev cluster down takes it away"
