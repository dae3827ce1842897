#!/usr/bin/env bash
# Takes clusters away with all that belongs to them: ./dev cluster down. Clears up after an up that did not end, too.
#
# Must never touch a cluster, network, rule or dockerd that up.sh did not make.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/docker.sh"
. "$here/underlay.sh"

names=(weft)
case ${1:-} in
    '') ;;
    --name) check_name "${2:?--name needs a value}"; names=("$2") ;;
    --all) mapfile -t names < <(find "$descriptions" -maxdepth 1 -name '*.log' -printf '%f\n' 2>/dev/null | sed 's/\.log$//') ;;
    *) die "down does not know $1: see ./dev cluster --help" ;;
esac
need_root

for name in "${names[@]}"; do
    if docker_answers; then
        remove_cluster "$name"
    fi
    rm -f "$descriptions/$name".{json,options.json,log,kubeconfig,kubeconfig.lock}
done
mkdir -p "$state"
exec 8>"$state/lock"
if ! flock --nonblock 8; then
    step "Another cluster is being brought up: what clusters share stays"
    exit 0
fi
if docker_answers; then
    docker ps --all --quiet --filter name=weft-node-build- | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
    remove_underlay
    if [ -n "$(docker ps --quiet)" ] || docker network inspect "$network_a" "$network_b" 2>/dev/null | jq -e 'any(.[].Containers; . != {})' >/dev/null; then
        step "Other containers run: the rest stays"
        exit 0
    fi
fi
stop_docker
restore_sysctls
rm -rf "$state"
step "Nothing is left"
