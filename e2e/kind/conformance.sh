#!/usr/bin/env bash
# Runs Kubernetes' own tests of networks against a cluster with Weft: conformance.sh NAME, for ./dev e2e --conformance.
#
# Owns $descriptions/conformance/NAME and the release of Weft on that cluster. What is left out is named in conformance-exceptions
# with the reason; must never leave out anything else, nor pass if fewer tests ran than there are.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/nodes.sh"
. "$here/underlay.sh"

name=$1
kubeconfig=$descriptions/$name.kubeconfig
found=$descriptions/conformance/$name
suite=$cache/go/conformance/e2e.test
exceptions=$here/conformance-exceptions
described() { jq -r "$1" "$descriptions/$name.json"; }

# How many tests of the kind this version of Kubernetes has, exceptions included.
case $(described .ipFamily) in
    ipv4) focus='\[sig-network\].*\[Conformance\]' there_are=45 ;;
    *) focus='\[Feature:IPv6DualStack\]' there_are=23 ;;
esac

# The images that these tests ask for are agnhost under other names.
name_images() {
    local image
    "$suite" --list-images | grep -E '/e2e-test-images/(agnhost|jessie-dnsutils):' | sort -u | while read -r image; do
        name_image "$agnhost" "$image"
    done
}

install_weft() {
    local pools='{"cidr":"10.244.0.0/16","nodePrefix":24}'
    [ "$(described .ipFamily)" = ipv4 ] || pools+=',{"cidr":"fd00:10:244::/56","nodePrefix":64}'
    "$bin/helm" --kubeconfig "$kubeconfig" upgrade --install weft "$root/deploy/chart" --namespace weft-system --create-namespace \
        --wait --timeout 5m --set image.repository=weft --set image.tag=dev --set-json "pools=[$pools]" >/dev/null
    kubectl wait nodes --all --for=condition=Ready --timeout=120s >/dev/null
    kubectl --namespace kube-system rollout status deployment/coredns --timeout=120s >/dev/null
}

# Something on the way may answer for all the world, and then tests find open what they have closed.
check_walls() {
    local node
    for node in $(containers "$name"); do
        if docker exec "$node" curl --silent --output /dev/null --connect-timeout 3 http://192.0.2.1; then
            die "$node reaches 192.0.2.1, which is nowhere: nodes must have no way out during these tests"
        fi
    done
}

# The names of the exceptions, without their reasons.
excepted() { sed -E '/^(#|$)/d; s/  # .*//' "$exceptions"; }

run_suite() {
    local skip workers
    # Tests that want several nodes go by what they are told.
    workers=$(described '[.nodes[] | select(.role == "worker")] | length')
    # The suite puts its own name before each test's.
    skip=$(excepted | sed -E 's/[][\\.*+?(){}|^$]/\\&/g; s/^/ /; s/$/$/' | paste -sd'|')
    # Most of their time they wait. Those that must be alone are alone.
    "$cache/go/kubernetes/ginkgo" --procs 4 --no-color --timeout 90m --focus "$focus" ${skip:+--skip "$skip"} \
        --output-dir "$found" --json-report report.json "$suite" -- \
        --kubeconfig "$kubeconfig" --kubectl-path "$bin/kubectl" --provider skeleton --num-nodes "$workers" --disable-log-dump \
        >"$found/log" 2>&1
}

# A line for each test that there is: how it ended, for how many seconds it ran, its name.
tests() {
    jq -r '.[0].SpecReports[] | select(.LeafNodeType == "It")
        | "\(.State)\t\(.RunTime / 1e9 | floor)\t\([.ContainerHierarchyTexts[]?, .LeafNodeText] | join(" "))"' "$found/report.json"
}

# The exceptions that are of this kind of tests. One that names no test at all is one too many.
left_out() {
    local one
    excepted | while read -r one; do
        cut -f 3 "$found/tests" | grep -Fx -- "$one" >/dev/null || die "$exceptions: there is no test \"$one\""
        if [[ $one =~ $focus ]]; then printf '%s\n' "$one"; fi
    done
}

has jq || die "jq not found: install it with this system's package manager"
mkdir -p "$found"
rm -f "${found:?}"/*
"$here/binaries.sh" kubernetes conformance
name_images
install_weft
trap open_outside EXIT
close_outside
check_walls
step "Running Kubernetes' own tests on $name: $focus"
began=$EPOCHSECONDS
status=0
run_suite || status=$?
[ -s "$found/report.json" ] || die "the suite did not run to its end: see $found/log"
tests >"$found/tests"
left_out >"$found/left-out"
passed=$(grep -c '^passed' "$found/tests" || true) left=$(wc -l <"$found/left-out")
printf '| %s | %s | %s | %s of %s | %s | %s s | %s |\n' "$(described .kubernetes)" "$(described .ipFamily)" "$(described .proxyMode)" \
    "$passed" "$there_are" "$left" $((EPOCHSECONDS - began)) "$(date --utc +%F)" | tee "$found/row"
grep -vE '^(passed|skipped|pending)' "$found/tests" >&2 || true
[ "$status" = 0 ] || die "tests failed on $name, the above: see $found/log"
[ $((passed + left)) = "$there_are" ] || die "$passed tests passed on $name and $left are excepted, but there are $there_are: see $found/tests"
