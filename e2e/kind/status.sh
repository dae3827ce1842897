#!/usr/bin/env bash
# Describes a cluster: ./dev cluster status. Keeps the description where tests read it.
#
# Owns $descriptions/NAME.json. Must change nothing else.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/underlay.sh"

name=weft output=table
while [ $# != 0 ]; do
    case $1 in
        --quiet) output=none; shift; continue ;;
        --name | --output) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) die "status does not know $1: see ./dev cluster --help" ;;
    esac
    case $1 in
        --name) name=$2 ;;
        --output) output=$2 ;;
    esac
    shift 2
done
check_name "$name"
case $output in table | json | none) ;; *) die "--output $output: table or json" ;; esac

subnet() {
    jq -n --arg name "$1" --arg network "$2" --arg bridge "$(bridge "$2")" --arg cidrs "$(cidrs "$2")" \
        '{name: $name, network: $network, bridge: $bridge, cidrs: ($cidrs | split("\n"))}'
}

describe() {
    # shellcheck disable=SC2046  # Names of containers.
    docker inspect $(containers "$name") | jq --slurpfile options "$descriptions/$name.options.json" \
        --argjson a "$(subnet a "$network_a")" --argjson b "$(subnet b "$network_b")" \
        --arg name "$name" --arg kubeconfig "$descriptions/$name.kubeconfig" --arg bin "$bin" \
        --arg agnhost "$agnhost" --arg base "$base" --arg a_name "$network_a" '
        $options[0] as $o
        | {name: $name, kubeconfig: $kubeconfig, bin: $bin} + $o + {
           nodes: map(.NetworkSettings.Networks as $networks
               | {name: .Name[1:], container: .Name[1:], pid: .State.Pid, role: .Config.Labels["io.x-k8s.kind.role"],
                  subnet: (if $networks[$a_name] then "a" else "b" end),
                  addresses: [$networks[] | .IPAddress, (if $o.ipFamily != "ipv4" then .GlobalIPv6Address else empty end)]}),
           subnets: [$a, $b], images: {agnhost: $agnhost, base: $base}}'
}

docker version >/dev/null 2>&1 || die "docker does not answer: no cluster $name is up"
[ -n "$(containers "$name")" ] || die "there is no cluster $name: ./dev cluster up --name $name"
[ -f "$descriptions/$name.options.json" ] || die "the cluster $name did not come up to its end: ./dev cluster down --name $name, then up"
description=$(describe)
printf '%s\n' "$description" >"$descriptions/$name.json"
case $output in
    json) printf '%s\n' "$description" ;;
    table)
        jq -r '"cluster \(.name), \(.kubernetes), \(.ipFamily), kube-proxy with \(.proxyMode), KUBECONFIG=\(.kubeconfig)",
            (.nodes[] | "  \(.name)  subnet \(.subnet)  \(.addresses | join(" "))  process \(.pid)"),
            (.subnets[] | "subnet \(.name): \(.cidrs | join(" ")) on \(.bridge)")' <<<"$description"
        ;;
esac
