#!/usr/bin/env bash
# Fetches and unpacks one of Debian's kernels: kernel.sh NAME prints its directory, which holds vmlinuz, modules.sqfs and early/,
# the modules of the first seconds with their order.
#
# Owns $place/kernel-VERSION. A kernel that is there is taken, whatever newer one Debian has meanwhile.
set -euo pipefail
# shellcheck source=e2e/vm/lib.sh
. "$(dirname "$0")/lib.sh"

# What is needed before the tree can be read.
early=(virtio_pci virtio_blk squashfs overlay ext4)

# The newest of the versions on standard input that the name means: 6.12 means 6.12.117+deb12-cloud-amd64, and not 6.1.
newest() {
    awk -v name="$1" '$0 == name || (index($0, name) == 1 && substr($0, length(name) + 1, 1) ~ /[.+-]/)' | sort --version-sort | tail -n 1
}

known() { find "$place" -maxdepth 1 -name "kernel-*-$arch" -printf '%f\n' | sed 's/^kernel-//'; }
offered() { apt-cache --names-only search "^linux-image-[0-9].*-cloud-$arch\$" | sed 's/^linux-image-//; s/ .*//' | grep -v '^[0-9.]*-cloud'; }

# fetch VERSION DIRECTORY
fetch() {
    local version=$1 into=$2 tree=$2/tree module
    mkdir -p "$tree" "$into/early"
    (cd "$into" && apt-get download -qq "linux-image-$version") >"$place/kernel.log" 2>&1 ||
        die "the kernel $version cannot be fetched: see $place/kernel.log"
    unpack "$into"/*.deb "$tree"
    cp "$tree/boot/vmlinuz-$version" "$into/vmlinuz"
    # Older packages have them beside usr.
    [ -d "$tree/usr/lib/modules" ] || { mkdir -p "$tree/usr/lib" && mv "$tree/lib/modules" "$tree/usr/lib/"; }
    (cd "$tree" && rm -rf boot lib usr/share) && rm "$into"/*.deb
    ln -s usr/lib "$tree/lib"
    depmod --basedir "$tree" "$version"
    for module in "${early[@]}"; do
        modprobe --dirname "$tree" --set-version "$version" --show-depends "$module"
    done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' >"$into/early/order"
    while read -r module; do
        case $module in
            *.xz) xz --decompress --stdout "$module" >"$into/early/$(basename "$module" .xz)" ;;
            *) cp "$module" "$into/early/" ;;
        esac
    done <"$into/early/order"
    sed -i 's,.*/,,; s,\.xz$,,' "$into/early/order"
    rm "$tree/lib"
    mksquashfs "$tree" "$into/modules.sqfs" -quiet -no-progress -comp lz4 -all-root
    rm -rf "$tree"
}

name=$1
mkdir -p "$place"
alone vm-kernel
version=$(known | newest "$name")
if [ -z "$version" ]; then
    use_packages debian "$kernels" "$arch"
    version=$(offered | newest "$name")
    if [ -z "$version" ] && [[ $name = *-$arch ]]; then
        version=$name
    fi
    [ -n "$version" ] || die "Debian has no kernel $name: it has $(offered | sort --version-sort | sed 's/-cloud-[a-z0-9]*$//' | paste -sd' ')"
    step "Fetching the kernel $version"
    rm -rf "$place/kernel-$version.partial"
    fetch "$version" "$place/kernel-$version.partial"
    mv -T "$place/kernel-$version.partial" "$place/kernel-$version"
fi
printf '%s\n' "$place/kernel-$version"
