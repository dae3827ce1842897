# The two subnets of the nodes and the router between them, which is this machine: shared by all clusters.
#
# Sourced. Owns docker's networks kind and kind-b where it made them, and the rules marked weft-kind. Must leave alone a
# network kind that was there before: other clusters may use it.
# shellcheck shell=bash disable=SC2154

network_a=kind
network_b=kind-b
mark=weft-kind

# The network's subnets, IPv4 first, one a line.
cidrs() {
    docker network inspect --format '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' "$1" |
        awk '/:/ { later = later $0 "\n"; next } NF { print } END { printf "%s", later }'
}

# The link of a network on this machine.
bridge() {
    docker network inspect --format '{{with index .Options "com.docker.network.bridge.name"}}{{.}}{{else}}br-{{slice .Id 0 12}}{{end}}' "$1"
}

# make_network NAME IPV6-SUBNET MTU LINK
make_network() {
    docker network inspect "$1" >/dev/null 2>&1 && return
    docker network create --driver bridge --label "$mark" --ipv6 --subnet "$2" --opt "com.docker.network.bridge.name=$4" \
        --opt com.docker.network.bridge.enable_ip_masquerade=true --opt "com.docker.network.driver.mtu=$3" "$1" >/dev/null
}

# Runs iptables for the family of a subnet, and waits its turn.
rule() {
    local program=iptables
    [[ $1 != *:* ]] || program=ip6tables
    shift
    "$program" --wait "$@"
}

# Each rule as its subnet, table and words, one a line.
rules() {
    local from to pair
    for pair in "$network_a $network_b" "$network_b $network_a"; do
        read -r from to <<<"$pair"
        while read -r subnet; do
            echo "$subnet filter DOCKER-USER --in-interface $(bridge "$from") --out-interface $(bridge "$to") --jump ACCEPT"
            # Sources stay what they are across the router.
            echo "$subnet nat POSTROUTING --source $subnet --out-interface $(bridge "$to") --jump ACCEPT"
            # Newer dockers drop early what comes to a container from another network.
            echo "$subnet raw PREROUTING --in-interface $(bridge "$from") --source $subnet --jump ACCEPT"
        done < <(cidrs "$from")
    done
}

# Every rule is asked for anew: dockerd puts its own first when a network or container comes.
open_router() { apply_rules < <(rules); }

# What keeps nodes from anything but each other and this machine: a rule a subnet, in the form of `rules`.
walls() {
    local network
    for network in "$network_a" "$network_b"; do
        while read -r subnet; do
            echo "$subnet filter DOCKER-USER --in-interface $(bridge "$network") ! --out-interface $(bridge "$network") --jump REJECT"
        done < <(cidrs "$network")
    done
}

# No way out for the nodes of any cluster, until open_outside or the end of the underlay.
close_outside() {
    apply_rules < <(walls)
    # These go before.
    open_router
}

open_outside() { withdraw_rules < <(walls); }

apply_rules() {
    local subnet table chain words
    while read -r subnet table chain words; do
        # dockerd may not manage ip6tables.
        [ "$chain" != DOCKER-USER ] || rule "$subnet" --list-rules DOCKER-USER >/dev/null 2>&1 || chain=FORWARD
        [ "$table" != raw ] || rule "$subnet" -t raw --list-rules PREROUTING 2>/dev/null | grep -q -- '-j DROP' || continue
        # shellcheck disable=SC2086  # Words are words.
        {
            rule "$subnet" -t "$table" --delete "$chain" -m comment --comment "$mark" $words 2>/dev/null || true
            rule "$subnet" -t "$table" --insert "$chain" -m comment --comment "$mark" $words
        }
    done
}

withdraw_rules() {
    local subnet table chain words
    while read -r subnet table chain words; do
        for chain in "$chain" FORWARD; do
            # shellcheck disable=SC2086  # Words are words.
            rule "$subnet" -t "$table" --delete "$chain" -m comment --comment "$mark" $words 2>/dev/null || true
        done
    done
}

close_router() {
    local command table line
    for command in iptables ip6tables; do
        for table in filter nat raw; do
            "$command" --wait -t "$table" --list-rules 2>/dev/null | grep -- "--comment $mark" | while read -r line; do
                # shellcheck disable=SC2086  # Words are words.
                "$command" --wait -t "$table" --delete ${line#-A }
            done || true
        done
    done
}

make_underlay() {
    make_network "$network_a" fd57:6566:7400:a::/64 "$1" kind-a
    make_network "$network_b" fd57:6566:7400:b::/64 "$1" kind-b
}

# Takes the networks away once no container is in them.
remove_underlay() {
    local network
    for network in "$network_a" "$network_b"; do
        docker network inspect "$network" >/dev/null 2>&1 || continue
        [ "$(docker network inspect --format '{{len .Containers}}' "$network")" = 0 ] || return 0
    done
    close_router
    for network in "$network_a" "$network_b"; do
        docker network ls --quiet --filter "name=^$network\$" --filter "label=$mark" | xargs --no-run-if-empty docker network rm >/dev/null
    done
}
