#!/usr/bin/env bash
# Puts programs into a disk for the machine: programs.sh OUT [TEST | PROGRAM:NAME...] with what was built, and more by their paths:
# test programs, and others under a name; and a directory of packages, if $packages is set.
#
# Owns OUT. Test programs lie in deps below the programs, as cargo has them, because that is how they find those.
set -euo pipefail
# shellcheck source=e2e/vm/lib.sh
. "$(dirname "$0")/lib.sh"

out=$1
shift
built=$(built debug)
stage=$out.stage
mkdir -p "$stage/opt/weft/deps"
for program in weft weft-controller weft-agent weft-cni weft-lab; do
    "${tools}strip" -o "$stage/opt/weft/$program" "$built/$program"
done
for program; do
    name=$(basename "$program")
    case $program in
        *:*) cp --dereference "${program%:*}" "$stage/opt/weft/${program##*:}" ;;
        *) "${tools}strip" -o "$stage/opt/weft/deps/${name%-*}" "$program" ;;
    esac
done
cp -r "$root/deploy/hosts" "$stage/opt/weft/hosts"
if [ -n "${packages:-}" ]; then
    cp -r "$packages" "$stage/opt/weft/packages"
fi
mksquashfs "$stage" "$out" -quiet -no-progress -comp lz4 -all-root
rm -r "$stage"
