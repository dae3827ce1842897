#!/usr/bin/env bash
# Builds Weft's image: image.sh [--release] [--base IMAGE] [--tag NAME:TAG]; that of another processor with $WEFT_ARCH.
#
# Owns target/image (the context: the programs and nothing else) and the image. Must never fetch a program, nor need a
# network inside a container: the Dockerfile only copies.
set -euo pipefail
cd "$(dirname "$0")/.."

command_name=image
# shellcheck source=e2e/steps.sh
. e2e/steps.sh
root=$PWD
# shellcheck source=deploy/arch.sh
. deploy/arch.sh

# The base of the cluster for tests, where no registry can be reached.
local_base=weft-base:bookworm
programs=(weft weft-controller weft-agent weft-cni)
target=${CARGO_TARGET_DIR:-target}
context=$target/image
base='' tag=weft:dev profile=debug flags=()

while [ $# != 0 ]; do
    case $1 in
        --release) profile=release flags=(--release) ;;
        --base | --tag)
            [ -n "${2:-}" ] || die "$1 needs a value"
            if [ "$1" = --base ]; then base=$2; else tag=$2; fi
            shift
            ;;
        *) die "no option '$1'; see ./dev image --help" ;;
    esac
    shift
done

has docker || die "docker not found: install it (docker.io on Debian); ./dev cluster up does"
docker info >/dev/null 2>&1 || die "no Docker daemon answers: start it; ./dev cluster up does"

# The plugin runs on the nodes themselves, whatever C library they have: everything is linked statically.
build_for_arch
step "Building the programs ($triple, $profile, static)"
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" nice cargo build --locked --target "$triple" "${flags[@]}" \
    -p weft-controller -p weft-agent -p weft-cli --bins

rm -rf "$context"
mkdir -p "$context"
for program in "${programs[@]}"; do
    "${tools}strip" -o "$context/$program" "$target/$triple/$profile/$program"
    if "${tools}readelf" -l "$context/$program" | grep -q INTERP; then
        die "$program is not static: is the C library's archive (libc6-dev) installed?"
    fi
done

# Who has no registry has a base for this machine's processor only, and programs that need none.
if [ -z "$base" ] && [ "$arch" != "$native" ] && [ -n "$(docker image ls --quiet "$local_base")" ]; then
    base=scratch
elif [ -z "$base" ] && docker image inspect "$local_base" >/dev/null 2>&1; then
    base=$local_base
fi
arguments=()
[ -z "$base" ] || arguments=(--build-arg "BASE=$base")
platform=()
[ "$arch" = "$native" ] || platform=(--platform "linux/$arch")
# The classic builder where there is no other.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
step "Building the image $tag${base:+ on $base}"
log=$target/image.log
docker build --quiet "${platform[@]}" --tag "$tag" --file deploy/Dockerfile "${arguments[@]}" "$context" >"$log" 2>&1 || die "docker cannot build it: $(<"$log")"
step "$tag for $(docker image inspect --format '{{.Architecture}}' "$tag"): $(docker image inspect --format '{{.Size}}' "$tag" | awk '{printf "%.0f MB", $1 / 1e6}')"
