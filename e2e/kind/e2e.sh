#!/usr/bin/env bash
# Runs the tests against a real cluster: ./dev e2e.
#
# Owns the order: cluster, image, tests, and the clusters of --all, which it takes away again. Must never take away a cluster
# that was there before, nor install Weft: the tests do that, as the README says.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
command_name=e2e

image=weft:dev
# What needs a cluster of another form, and which runs there by --all only.
elsewhere=(--skip dual_stack:: --skip moved:: --skip one_node::)
# What takes more than two minutes each, and CI leaves out.
slow=(--skip interrupted::a_failed_uninstallation --skip selectors::)

# What a cluster of both families is brought up with.
dual='--ip-family dual --proxy-mode nftables'
# The kinds of Kubernetes' own tests, and the cluster of each.
declare -A conformed=([ipv4]=weft [nftables]=weft-nftables [dual]=weft-dual)

all=false conformance=false
while :; do
    case ${1:-} in
        --all) all=true ;;
        --conformance) conformance=true ;;
        *) break ;;
    esac
    shift
done

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
    load "$name" || return
    step "Testing on $name"
    WEFT_KIND=$name "$tests" --ignored --nocapture --test-threads=1 "$@"
}

# Kubernetes' own tests, against a cluster: conform NAME
conform() {
    load "$1" && "$here/conformance.sh" "$1"
}

# other NAME OPTIONS RUN ARGUMENT...: brings a cluster of its own up for what RUN does on it, and takes it away.
other() {
    local name=$1 options=$2 what=$3 failed=0
    shift 3
    # shellcheck disable=SC2086  # Several options.
    cluster "$name" $options
    "$what" "$name" "$@" || failed=1
    [ "$failed" = 0 ] || die "tests failed on $name, which is still up: ./dev cluster status --name $name"
    "$here/down.sh" --name "$name"
}

# What needs no cluster that is up.
build_tests() {
    step "Building the tests"
    # What a person has in the PATH.
    cargo build --quiet --locked --package weft-cli --bins
    tests=$(cargo test --quiet --locked --package weft-e2e --test kind --no-run --message-format=json |
        jq -r 'select(.reason == "compiler-artifact" and .target.name == "kind" and .executable) | .executable')
}

test_without_nodes() {
    step "Testing the chart"
    cargo test --quiet --locked --package weft-e2e --test chart -- --ignored
    step "Testing the controller against an API server of its own"
    cargo test --quiet --locked --package weft-controller --test kubernetes -- --ignored --test-threads=1
    step "The chart and the controller are tested"
}

# Begins what needs no nodes, which goes on beside what mostly waits for nodes.
begin_without_nodes() {
    cargo test --quiet --locked --package weft-e2e --test chart --no-run
    cargo test --quiet --locked --package weft-controller --test kubernetes --no-run
    # A group of its own, so that its end takes all of it.
    set -m
    test_without_nodes >"$descriptions/without-nodes.log" 2>&1 &
    beside=$!
    set +m
    trap 'kill -- "-$beside" 2>/dev/null || true' EXIT
}

end_without_nodes() {
    local code=0
    step "Waiting for the tests that need no nodes"
    wait "$beside" || code=$?
    trap - EXIT
    cat "$descriptions/without-nodes.log"
    [ "$code" = 0 ] || die "tests that need no nodes failed, the above"
}

test_all() {
    run weft "${elsewhere[@]}"
    other weft-one '--workers 0' run one_node:: plugin::
    other weft-ipv6 '--ip-family dual-ipv6' run dual_stack:: journey:: services::
    other weft-dual "$dual" run dual_stack:: journey:: services:: ports:: mtu:: same_subnet:: allocators:: listing:: firewall:: uninstall::
    other weft-theirs '--allocate-node-cidrs' run allocators:: moved:: journey:: readiness:: uninstall::
}

# conform_all [KIND...]
conform_all() {
    local kind
    [ $# != 0 ] || set -- ipv4 nftables dual
    for kind; do
        case $kind in
            ipv4) conform weft || die "tests failed on weft, which is still up" ;;
            nftables) other weft-nftables '--proxy-mode nftables' conform ;;
            dual) other weft-dual "$dual" conform ;;
        esac
    done
    step "Kubernetes' own tests:"
    printf '| Kubernetes | family | kube-proxy | passed | left out | took | on |\n| --- | --- | --- | --- | --- | --- | --- |\n'
    for kind; do
        cat "$descriptions/conformance/${conformed[$kind]}/row"
    done
}

if "$conformance"; then
    ! "$all" || [ $# = 0 ] || die "--all --conformance takes no arguments: see ./dev e2e --help"
    for kind; do
        [ -n "${conformed[$kind]:-}" ] || die "--conformance $kind: ipv4, nftables or dual"
    done
fi
need_root
need_docker
cluster weft
step "Building the image $image"
"$root/dev" image
if "$all" || ! "$conformance"; then
    build_tests
    if [ $# != 0 ]; then
        run weft "$@"
    else
        begin_without_nodes
        if "$all"; then
            test_all
        else
            run weft "${elsewhere[@]}" "${slow[@]}"
        fi
        end_without_nodes
    fi
fi
if "$conformance"; then
    conform_all "$@"
fi
step "All tests passed; the cluster weft is still up: ./dev cluster down takes it away"
