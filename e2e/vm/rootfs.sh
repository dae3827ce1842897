#!/usr/bin/env bash
# Makes the machine's Debian tree of packages, without root: rootfs.sh prints its directory, which holds tree.sqfs and busybox.
#
# Owns $place/rootfs-KEY. Runs no program of the tree and no package's scripts: what those would have done and is needed is
# done here. Must never need a privilege.
set -euo pipefail
# shellcheck source=e2e/vm/lib.sh
. "$(dirname "$0")/lib.sh"

packages=(
    # What tests and people look with, and what makes a node of a host.
    iproute2 nftables iptables procps iputils-ping tcpdump ethtool wireguard-tools ipvsadm ipset kmod less passwd
    # An init that can be asked for, with its bus and its network managers.
    systemd systemd-sysv dbus udev network-manager
    # For the first seconds, before there is a tree.
    busybox-static
)

# register PACKAGE TREE: tells the tree's dpkg that it is installed, with which files.
register() {
    local known=$2/var/lib/dpkg control name
    control=$(dpkg-deb --field "$1")
    name=$(awk '/^[A-Z]/ { f[$1] = $2 } END { print f["Package:"] (f["Multi-Arch:"] == "same" ? ":" f["Architecture:"] : "") }' <<<"$control")
    mkdir -p "$known/info" "$known/updates"
    printf '%s\nStatus: install ok installed\n\n' "$control" >>"$known/status"
    dpkg-deb --fsys-tarfile "$1" | tar --list | sed 's,^\./$,/.,; s,^\./\(.*[^/]\)/*$,/\1,' >"$known/info/$name.list"
}

# What the packages' scripts would have done.
finish() {
    local tree=$1 command
    cp "$tree"/usr/share/base-passwd/passwd.master "$tree/etc/passwd"
    cp "$tree"/usr/share/base-passwd/group.master "$tree/etc/group"
    cp "$tree"/usr/share/libc-bin/nsswitch.conf "$tree/etc/nsswitch.conf"
    cp "$tree"/usr/share/base-files/profile "$tree/etc/profile"
    for command in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -sf xtables-nft-multi "$tree/usr/sbin/$command"
    done
    ln -sf mawk "$tree/usr/bin/awk"
    printf 'vm\n' >"$tree/etc/hostname"
    printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$tree/etc/hosts"
    : >"$tree/etc/machine-id"
    rm -rf "$tree"/var/{run,lock}
    ln -s /run "$tree/var/run"
    ln -s /run/lock "$tree/var/lock"
    chmod 755 "$tree"
    rm -rf "$tree"/usr/share/{doc,man,locale,info}
}

read -r distribution suite < <(release)
key=$({ printf '%s\n' "$distribution" "$suite" "$arch" "${packages[@]}"; declare -f register finish; } | sha256sum | cut -c1-16)
made=$place/rootfs-$key
alone vm-rootfs
if [ ! -d "$made" ]; then
    step "Making the machine's tree of packages ($distribution $suite $arch)"
    partial=$made.partial
    rm -rf "$partial"
    mkdir -p "$partial/tree/usr"
    use_packages "$distribution" "$suite" "$arch"
    archives=$(dirname "$APT_CONFIG")/archives
    rm -f "$archives"/*.deb
    apt-get install --yes --download-only --no-install-recommends '?essential' "${packages[@]}" >"$place/rootfs.log" 2>&1 ||
        die "the packages cannot be fetched: see $place/rootfs.log"
    for directory in bin sbin lib lib64; do
        mkdir "$partial/tree/usr/$directory"
        ln -s "usr/$directory" "$partial/tree/$directory"
    done
    for package in "$archives"/*.deb; do
        unpack "$package" "$partial/tree"
        register "$package" "$partial/tree"
        rm "$package"
    done
    finish "$partial/tree"
    cp "$partial/tree/bin/busybox" "$partial/busybox"
    mksquashfs "$partial/tree" "$partial/tree.sqfs" -quiet -no-progress -comp lz4 -all-root
    chmod -R u+w "$partial/tree"
    rm -rf "$partial/tree"
    mv -T "$partial" "$made"
fi
printf '%s\n' "$made"
