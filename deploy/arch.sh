# For which processor programs are built: $WEFT_ARCH, Debian's name of it, by default this machine's.
#
# Sourced after step, die, has, cache and root are there. Owns $cache/rust-*, Debian's compiler for machines whose own has no library
# for that processor. Must leave this machine's compiler, packages and settings as they are.
# shellcheck shell=bash disable=SC2034,SC2154

debian_name() { case $1 in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) echo "$1" ;; esac; }
native=$(debian_name "$(uname -m)")
arch=${WEFT_ARCH:-$native}
case $arch in
    amd64) triple=x86_64-unknown-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu ;;
    *) die "--arch $arch: give amd64 or arm64" ;;
esac
# How gcc, strip and readelf of that processor are called here.
tools=''
[ "$arch" = "$native" ] || tools=${triple/-unknown/}-

# built PROFILE: the directory of the programs.
built() {
    local target=${CARGO_TARGET_DIR:-$root/target}
    [ "$arch" = "$native" ] || target+=/$triple
    printf '%s/%s' "$target" "$1"
}

# Has cargo build for that processor, from here on.
build_for_arch() {
    [ "$arch" != "$native" ] || return 0
    local upper=${triple^^}
    has "${tools}gcc" || die "${tools}gcc not found: install gcc-${triple%%-*}-linux-gnu and libc6-dev-$arch-cross"
    export CARGO_BUILD_TARGET=$triple "CARGO_TARGET_${upper//-/_}_LINKER=${tools}gcc"
    [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple" ] || return 0
    export RUSTC=$cache/rust-$arch/rustc
    # A lock of its own shell.
    (alone "rust-$arch" && { [ -x "$RUSTC" ] || unpack_rust "$cache/rust-$arch"; })
}

# needs PACKAGE NAME: the package beginning with that name that the newest version of the other one depends on.
needs() { apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: //p' | tr -s ' ,|' '\n' | grep -m 1 "^$2"; }

# unpack_rust DIRECTORY: Debian's compiler for browsers, which is as new as those need, with the library for the other processor.
unpack_rust() {
    local into=$1 package packages
    step "Unpacking Debian's Rust with its library for $arch"
    rm -rf "$into.partial"
    mkdir -p "$into.partial"
    has apt-cache || die "Rust has no library for $arch here: rustup target add $triple"
    # shellcheck source=e2e/vm/lib.sh
    . "$root/e2e/vm/lib.sh"
    use_packages debian "$kernels" "$native" "$arch"
    # What it needs is named with its version, in names.
    packages="rustc-web libstd-rust-web-dev $(needs libstd-rust-web-dev 'libstd-rust-web-')"
    packages+=" $(needs "${packages##* }" libllvm)"
    # shellcheck disable=SC2086  # Several names.
    (cd "$into.partial" && apt-get download -qq $packages "libstd-rust-web-dev:$arch") >"$into.log" 2>&1 ||
        die "Rust for $arch cannot be fetched from Debian: see $into.log, or rustup target add $triple"
    for package in "$into.partial"/*.deb; do
        unpack "$package" "$into.partial"
        rm "$package"
    done
    cat >"$into.partial/rustc" <<'SH'
#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-gnu) exec "$here/usr/bin/rustc" "$@"
SH
    chmod +x "$into.partial/rustc"
    mv -T "$into.partial" "$into"
}
