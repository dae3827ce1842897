#!/usr/bin/env bash
# Holds what modules "must never" know of each other, as far as imports show it: rooms.sh, for ./dev lint.
#
# Owns the list of rooms, and that no rooms of a crate import each other in a circle. A room that is not there any more is an error too, since its rule would hold nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

broken=0

# room PATHS WORDS WHY: no file below one of these paths, separated by spaces, says one of these words, an extended regular expression. Tests
# and the protocol's simulation may.
room() {
    local paths=$1 words=$2 why=$3 path found
    for path in $paths; do
        [ -e "$path" ] || { printf 'rooms.sh: %s is not there: mend its rule (%s)\n' "$path" "$why" >&2; broken=1; continue; }
        found=$(grep -rnE --include='*.rs' --exclude=tests.rs --exclude-dir=simulation "$words" "$path" | grep -vE '^[^:]*:[0-9]+: *//' || true)
        [ -n "$found" ] || continue
        printf '%s\n    ^ %s: %s\n' "$found" "$path" "$why" >&2
        broken=1
    done
}

# of NAMES: an expression that finds a use of one of these modules of the crate, also within braces as rustfmt breaks them.
of() {
    printf '\\bcrate::(%s)\\b|\\bcrate::\\{.*\\b(%s)\\b|^    (%s)(::|,)' "$1" "$1" "$1"
}

room "agent/src/engine.rs agent/src/engine agent/src/pods.rs agent/src/pods agent/src/veth.rs agent/src/veth agent/src/kernel.rs agent/src/kernel agent/src/probe.rs agent/src/standing.rs" \
    '\b(weft_proto|tonic|prost)\b' "the middle of the agent knows no wire: api, controller and cni do"
room "controller/src/cluster.rs controller/src/cluster controller/src/kubernetes.rs controller/src/kubernetes controller/src/metrics.rs" \
    '\b(weft_proto::v1|tonic|prost)\b' "the middle of the controller knows no messages: rpc and fanout do"
room "controller/src/cluster.rs controller/src/cluster" "$(of 'rpc|kubernetes|leader|tls|servers|run|http')" "membership knows nothing of who carries it"
room "controller/src/store.rs controller/src/store" "$(of 'kubernetes|leader|cluster|rpc|run')" "a store keeps what it is told"
room "controller/src/leader.rs controller/src/leader" "$(of 'kubernetes|rpc|run|servers')|\b(weft_api|kube|k8s_openapi)::" "who leads is decided without knowing who keeps the Lease"
room "controller/src/rpc.rs controller/src/rpc" "$(of 'kubernetes|run|leader')" "services ask whoever can tell, and know nobody by name"
room "controller/src/kubernetes.rs controller/src/kubernetes" "$(of run)" "Kubernetes is chosen, and chooses nothing"
room "agent/src/kernel.rs agent/src/kernel" "$(of 'engine|pods|controller|api|cni|veth')" "the edge to the kernel decides nothing"
room "agent/src/veth.rs agent/src/veth" "$(of 'cni|pods|engine|api|controller')" "plugin and agent stand on the pair, and not it on them"
room "agent/src/pods.rs agent/src/pods" "$(of 'cni|api|engine|controller')" "the address book is asked, and asks nobody"
room "agent/src/cni.rs agent/src/cni" "$(of 'pods|engine|api|controller|run')" "the plugin knows the agent by its socket only"
room "agent/src/config.rs agent/src/config" "$(of 'cni|run|engine|api')" "configuration is read before anything runs"
room "program/src" '\bweft_(core|proto|api|agent|controller|cli)::' "what all programs share knows none of them"
room "cli/src" '\bweft_(agent|controller)::' "the command asks the others, and is none of them"

# imports CRATE: a line for each import of one top-level module by another, "importer imported", as rustfmt writes them.
imports() {
    local src=$1/src
    find "$src" -mindepth 1 -name '*.rs' ! -name tests.rs ! -path '*/tests/*' ! -path '*/simulation/*' ! -path '*/bin/*' ! -name main.rs ! -name lib.rs \
        -exec awk -v src="$src/" '
            function top_of(path) { sub(src, "", path); sub(/[\/.].*/, "", path); return path }
            function imports(name) { if (name != top && name != "") print top, name }
            FNR == 1 { top = top_of(FILENAME); skip = within = 0 }
            /^mod tests \{/ { skip = 1 }
            skip || /^ *\/\// { next }
            { line = $0; while (match(line, /crate::[a-z_]+/)) { imports(substr(line, RSTART + 7, RLENGTH - 7)); line = substr(line, RSTART + RLENGTH) } }
            /use crate::\{$/ { within = 1; next }
            /^\};/ { within = 0 }
            within && match($0, /^    [a-z_]+/) { imports(substr($0, 5, RLENGTH - 4)) }
            match($0, /use crate::\{.+\};/) {
                depth = 0; word = ""
                for (at = index($0, "{"); at <= length($0); at++) {
                    c = substr($0, at, 1)
                    if (c == "{") { if (++depth == 1) { word = ""; first = 1; continue } }
                    if (c == "}") depth--
                    if (depth == 1 && c == ",") { first = 1; word = ""; continue }
                    if (first && c ~ /[a-z_]/) word = word c
                    else if (first && c == ":") { imports(word); first = 0 }
                    else if (c != " ") first = 0
                }
            }' {} + | sort -u | while read -r importer imported; do
        [ ! -e "$src/$imported.rs" ] || printf '%s %s\n' "$importer" "$imported"
    done
}

# circles CRATE: no top-level module of a crate imports another that imports it, however many are between.
circles() {
    local found
    if ! found=$(imports "$1" | tsort 2>&1 >/dev/null); then
        printf '%s: modules import each other in a circle:\n%s\n' "$1" "$found" >&2
        broken=1
    fi
}
for crate in core proto api program agent controller cli; do circles "$crate"; done

exit "$broken"
