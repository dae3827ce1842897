#!/usr/bin/env bash
# Brings a cluster up over two subnets: ./dev cluster up. What was begun and not ended, down.sh clears away.
#
# Owns nothing after it ended but what down.sh removes. Must not wait for nodes to be ready: without a CNI they never are.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/docker.sh"
. "$here/underlay.sh"
. "$here/nodes.sh"

name=weft family=ipv4 proxy=iptables allocate=false workers=3 image='' mtu=1500
while [ $# != 0 ]; do
    case $1 in
        --allocate-node-cidrs) allocate=true; shift; continue ;;
        --name | --ip-family | --proxy-mode | --workers | --node-image | --underlay-mtu) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) die "up does not know $1: see ./dev cluster --help" ;;
    esac
    case $1 in
        --name) name=$2 ;;
        --ip-family) family=$2 ;;
        --proxy-mode) proxy=$2 ;;
        --workers) workers=$2 ;;
        --node-image) image=$2 ;;
        --underlay-mtu) mtu=$2 ;;
    esac
    shift 2
done
check_name "$name"
case $family in ipv4 | dual | dual-ipv6) ;; *) die "--ip-family $family: ipv4, dual or dual-ipv6" ;; esac
case $proxy in iptables | nftables) ;; *) die "--proxy-mode $proxy: iptables or nftables" ;; esac
[[ $workers =~ ^[0-9]$ ]] || die "--workers $workers: 0 to 9"
[[ $mtu =~ ^[0-9]{4,5}$ ]] || die "--underlay-mtu $mtu: 1280 to 65535"
need_root

# kind's own description of the cluster.
configuration() {
    local pods=10.244.0.0/16 services=10.96.0.0/16 kinds=$family own='' worker
    case $family in
        dual) pods+=,fd00:10:244::/56 services+=,fd00:10:96::/112 ;;
        dual-ipv6)
            # kind knows both families with IPv4 first only; kubeadm is told what is more.
            own="{podSubnet: \"fd00:10:244::/56,$pods\", serviceSubnet: \"fd00:10:96::/112,$services\"}"
            pods=fd00:10:244::/56 services=fd00:10:96::/112 kinds=ipv6
            ;;
    esac
    cat <<YAML
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  ipFamily: $kinds
  apiServerAddress: 127.0.0.1
  podSubnet: "$pods"
  serviceSubnet: "$services"
  kubeProxyMode: $proxy
  disableDefaultCNI: true
kubeadmConfigPatches:
  - |
    apiVersion: kubeadm.k8s.io/v1beta3
    kind: ClusterConfiguration
    controllerManager:
      extraArgs:
        allocate-node-cidrs: "$allocate"
${own:+    networking: $own
}nodes:
  - role: control-plane
YAML
    for ((worker = 0; worker < workers; worker++)); do
        echo "  - role: worker"
    done
}

# The published image where a registry answers, else one of our own.
choose_image() {
    if ! docker image inspect "$published" >/dev/null 2>&1 && timeout 15 docker manifest inspect "$published" >/dev/null 2>&1; then
        step "Pulling the node image $published"
        docker pull --quiet "$published" >/dev/null || true
    fi
    if docker image inspect "$published" >/dev/null 2>&1; then
        image=$published
    else
        step "No registry answers: the node image is put together here"
        image=$("$here/images.sh" node)
    fi
}

has jq || die "jq not found: install it with this system's package manager"
mkdir -p "$state"
# down.sh takes away what clusters share only where no up is at work.
exec 8>"$state/lock"
flock --shared 8
start_docker
if [ -n "$(containers "$name")" ]; then
    "$docker_was_down" || die "a cluster $name is there already: ./dev cluster down --name $name"
    # Its links and the router's rules went when the machine was started anew, so that it cannot be used.
    step "The cluster $name is from before dockerd stopped"
    remove_cluster "$name"
fi
"$here/binaries.sh" kind kubernetes helm
[ -n "$image" ] || choose_image
"$here/images.sh" others
# Every node watches many files; the limit counts for all of them together.
[ "$(</proc/sys/fs/inotify/max_user_instances)" -ge 1024 ] || set_sysctl fs/inotify/max_user_instances 1024
[ "$(</proc/sys/fs/inotify/max_user_watches)" -ge 524288 ] || set_sysctl fs/inotify/max_user_watches 524288
make_underlay "$mtu"

mkdir -p "$descriptions"
kubeconfig=$descriptions/$name.kubeconfig
rm -f "$kubeconfig" "$descriptions/$name.json"
step "Creating the cluster $name: $workers workers, $family, kube-proxy with $proxy, image $image"
configuration | "$bin/kind" create cluster --name "$name" --image "$image" --kubeconfig "$kubeconfig" --config - \
    --wait 0s --retain -v 3 >"$descriptions/$name.log" 2>&1 || die "kind failed: $(grep '^ERROR' "$descriptions/$name.log"); all of it is in $descriptions/$name.log; ./dev cluster down clears up"
step "Moving nodes to the second subnet"
arrange_nodes
step "Checking every node"
check_nodes
jq -n --arg family "$family" --arg proxy "$proxy" --argjson allocate "$allocate" \
    --arg kubernetes "$(docker exec "$(control_plane)" cat /kind/version)" \
    '{ipFamily: $family, proxyMode: $proxy, allocateNodeCidrs: $allocate, kubernetes: $kubernetes}' >"$descriptions/$name.options.json"
"$here/status.sh" --name "$name" --quiet
step "The cluster $name is up: export KUBECONFIG=$kubeconfig"
