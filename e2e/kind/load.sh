#!/usr/bin/env bash
# Loads an image of docker's into every node of a cluster: ./dev cluster load IMAGE.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$here/nodes.sh"

name=weft
if [ "${1:-}" = --name ]; then
    name=${2:?--name needs a value}
    shift 2
fi
[ $# = 1 ] || die "load takes one image: ./dev cluster load [--name NAME] IMAGE"
check_name "$name"
[ -n "$(containers "$name")" ] || die "there is no cluster $name: ./dev cluster up --name $name"
step "Loading $1 into the nodes of $name"
load_image "$1"
step "Loaded"
