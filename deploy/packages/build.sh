#!/usr/bin/env bash
# Builds Weft's Debian packages: build.sh [--debug] [--version VERSION] [--out DIR]; those of another processor with $WEFT_ARCH.
#
# What is in them is said in the Cargo.toml of cli, controller and agent; cargo-deb reads it there, and writes the parts of their
# scripts that start and stop units. Owns target/packages. Must never hold a copy of what deploy/hosts has.
set -euo pipefail
cd "$(dirname "$0")/../.."
command_name=package
# shellcheck source=e2e/steps.sh
. e2e/steps.sh
root=$PWD
# shellcheck source=deploy/arch.sh
. deploy/arch.sh

# Kept: another version writes other scripts.
cargo_deb=3.8.0
crates=(weft-cli weft-controller weft-agent)
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
profile=release out=$target/packages version=() haste=()

while [ $# != 0 ]; do
    case $1 in
        --debug) profile=debug haste=(--fast --compress-type gz --compress-system) ;;
        --version | --out)
            [ -n "${2:-}" ] || die "$1 needs a value"
            if [ "$1" = --out ]; then out=$(realpath -m "$2"); else version=(--deb-version "$2"); fi
            shift
            ;;
        *) die "no option '$1'; see ./dev package --help" ;;
    esac
    shift
done

# A program with what is generated from it, where cargo-deb looks for what cargo built.
lay_out() {
    local program=$1 layout=$2
    "${tools}strip" -o "$layout/$program" "$(built "$profile")/$program"
    # The plugin is run by container runtimes only.
    [ "$program" != weft-cni ] || return 0
    "$generates/$program" man "$layout/$program.man"
    "$generates/$program" completion bash >"$layout/$program.completion"
}

has dpkg-shlibdeps || die "dpkg-shlibdeps not found: install dpkg-dev; this needs Debian or Ubuntu"
# Pages and completion are the same for every processor, and only programs of this one run here.
generates=$(built "$profile")
if [ "$arch" != "$native" ]; then
    env -u WEFT_ARCH -u CARGO_BUILD_TARGET -u RUSTC ./dev build --bins
    generates=$target/debug
fi
build_for_arch
case $profile in
    release) ./dev build --release ;;
    debug) ./dev build --bins ;;
esac
cargo_deb_root=$cache/cargo-deb-$cargo_deb
alone cargo-deb
if [ ! -x "$cargo_deb_root/bin/cargo-deb" ]; then
    step "Building cargo-deb $cargo_deb"
    env -u CARGO_BUILD_TARGET cargo install --quiet --locked --version "=$cargo_deb" --root "$cargo_deb_root" cargo-deb
fi
layout=$target/packages/layout
rm -rf "$layout"
mkdir -p "$layout/$triple/release" "$out"
for program in weft weft-controller weft-agent weft-cni; do
    lay_out "$program" "$layout/$triple/release"
done
for crate in "${crates[@]}"; do
    package=$(CARGO_TARGET_DIR=$layout "$cargo_deb_root/bin/cargo-deb" --quiet --no-build --no-strip --locked --package "$crate" --target "$triple" \
        ${version[@]+"${version[@]}"} ${haste[@]+"${haste[@]}"} --output "$out")
    # cargo-deb only warns where it cannot find out.
    dpkg-deb --field "$package" Depends | grep -q libc6 || die "$package does not depend on the C library: does dpkg-shlibdeps know it?"
    step "$package"
done
rm -r "$layout"
