# What kind leaves to be done in the nodes: their subnets, addresses, names and strictness.
#
# Sourced by up.sh, whose $name, $family, $kubeconfig and $image it reads. Must never run while kind works on the cluster.
# shellcheck shell=bash disable=SC2154

control_plane() { printf '%s-control-plane' "$name"; }
kubectl() { "$bin/kubectl" --kubeconfig "$kubeconfig" "$@"; }

# The nodes of the second subnet: all workers but the first, if there are any.
second_subnet() { containers "$name" | grep -v -e control-plane -e '-worker$' || true; }

# addresses CONTAINER: what kubelet is to announce, the cluster's main family first.
addresses() {
    local v4='{{println .IPAddress}}' v6='{{println .GlobalIPv6Address}}' wanted
    case $family in
        ipv4) wanted=$v4 ;;
        dual) wanted=$v4$v6 ;;
        dual-ipv6) wanted=$v6$v4 ;;
    esac
    docker inspect --format "{{range .NetworkSettings.Networks}}$wanted{{end}}" "$1" | grep .
}

# Tells a node where the API server is, whichever network it is in, and who it is itself.
introduce() {
    local node=$1 own server
    own=$(addresses "$node" | paste -sd,)
    server=$(addresses "$(control_plane)" | sed "s/\$/ $(control_plane)/")
    docker exec --interactive "$node" sh -euc "
        tee /kind/hosts >>/etc/hosts
        sed -i -E 's|--node-ip=[^ \"]*|--node-ip=$own|' /var/lib/kubelet/kubeadm-flags.env
        for interface in /proc/sys/net/ipv4/conf/*; do echo 1 >\$interface/rp_filter; done
        systemctl restart kubelet" <<<"$server"
}

arrange_nodes() {
    local node
    for node in $(second_subnet); do
        docker network disconnect "$network_a" "$node"
        docker network connect "$network_b" "$node"
    done
    open_router
    for node in $(containers "$name"); do
        introduce "$node"
    done
    if [ "$image" = "$published" ]; then
        add_plugins
        load_image "$agnhost"
    fi
}

# The published image lacks some of the reference plugins.
add_plugins() {
    local node
    "$here/binaries.sh" plugins
    for node in $(containers "$name"); do
        docker cp --follow-link "$cache/go/plugins/." "$node:/opt/cni/bin/"
    done
}

# Gives an image that every node has one more name: name_image IMAGE NAME
name_image() {
    local node
    for node in $(containers "$name"); do
        docker exec "$node" ctr --namespace k8s.io images tag --force "docker.io/library/$1" "$2" >/dev/null
    done
}

# Loads an image into the containerd of every node, all at once.
load_image() {
    local archive node waiting=() one failed=0
    archive=$(mktemp)
    docker save --output "$archive" "$1" || die "docker has no image $1: build it first"
    for node in $(containers "$name"); do
        docker exec --interactive "$node" ctr --namespace k8s.io images import - <"$archive" >/dev/null &
        waiting+=($!)
    done
    for one in "${waiting[@]}"; do
        wait "$one" || failed=1
    done
    rm "$archive"
    [ "$failed" = 0 ] || die "$1 could not be loaded into every node of $name"
}

# Every node is registered with its own address and runs kube-proxy that was born with the names it needs.
check_nodes() {
    local node
    for node in $(containers "$name"); do
        kubectl wait "node/$node" --for=create --timeout=120s >/dev/null
        kubectl wait "node/$node" --timeout=120s --for="jsonpath={.status.addresses[0].address}=$(addresses "$node" | head -n 1)" >/dev/null
    done
    kubectl --namespace kube-system delete pods --selector k8s-app=kube-proxy --wait=true --grace-period=1 >/dev/null
    kubectl --namespace kube-system rollout status daemonset/kube-proxy --timeout=120s >/dev/null
    for node in $(containers "$name"); do
        docker exec "$node" timeout 10 curl --silent --fail --insecure --output /dev/null "https://$(control_plane):6443/livez" ||
            die "$node does not reach the API server: see docker logs $node"
    done
}
