#!/usr/bin/env bash
# Makes the Debian tree that every image of the cluster is cut from: rootfs.sh prints its directory.
#
# Owns $cache/rootfs-KEY. Must run no program of the tree outside of a chroot of it.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

suite=bookworm
# Without one, debootstrap takes the distribution's own.
mirror=${WEFT_DEBIAN_MIRROR:-}
packages=(
    # The node: its init, its container runtime, what kubelet, kubeadm and kube-proxy call, and what tests look with.
    systemd containerd runc iptables nftables conntrack iproute2 ethtool mount kmod jq curl procps socat tcpdump iputils-ping
    # Programs' own trees: certificates; and what the conformance tests call in agnhost.
    ca-certificates libgcc-s1 netcat-openbsd bind9-dnsutils
)

key=$(printf '%s\n' "$suite" "${packages[@]}" | sha256sum | cut -c1-16)
tree=$cache/rootfs-$key
alone rootfs
if [ ! -d "$tree" ]; then
    step "Making the Debian tree of the images"
    partial=$tree.partial
    rm -rf "$partial"
    include=$(IFS=,; printf '%s' "${packages[*]}")
    nice debootstrap --variant=minbase --include="$include" "$suite" "$partial" ${mirror:+"$mirror"} >"$cache/debootstrap.log" 2>&1 ||
        die "debootstrap failed: see $cache/debootstrap.log; WEFT_DEBIAN_MIRROR names another mirror"
    rm -rf "$partial"/var/cache/apt/archives/*.deb "$partial"/var/lib/apt/lists/* "$partial"/usr/share/{doc,man,locale}/*
    mv -T "$partial" "$tree"
fi
printf '%s\n' "$tree"
