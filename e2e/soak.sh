#!/usr/bin/env bash
# Runs the test programs again and again beside busy cores: soak.sh MINUTES [ARGUMENT...], for ./dev test --soak.
#
# Owns the order of the programs, the load, and the summary. Must never end at a failure: a test that fails now and then is
# what it looks for. Whoever calls it has built everything, and looks for what was left behind.
set -euo pipefail
cd "$(dirname "$0")/.."

# A program that takes longer runs in every tenth round only.
quick_seconds=15
minutes=$1
shift
place=${CARGO_TARGET_DIR:-$PWD/target}/soak
rm -rf "$place"
mkdir -p "$place"

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

# All test programs, one a line, behind the directory that cargo starts them in.
programs() {
    cargo test --workspace --locked --no-run --quiet --message-format=json |
        sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"profile":{[^}]*"test":true.*"executable":"\([^"]*\)".*/\1 \2/p'
}

# One busy loop for each core, until this shell ends.
load=()
make_load() {
    local core
    for ((core = $(nproc); core > 0; core--)); do
        (while :; do :; done) &
        load+=($!)
    done
    trap 'kill "${load[@]}" 2>/dev/null || true' EXIT
}

declare -A seconds runs failures
# run DIRECTORY PROGRAM ARGUMENT...
run() {
    local directory=$1 program=$2 name start=$SECONDS
    shift 2
    name=$(basename "$program")
    name=${name%-*}
    runs[$program]=$((${runs[$program]:-0} + 1))
    if ! (cd "$directory" && exec "$program" "$@") >"$place/now" 2>&1; then
        failures[$program]=$((${failures[$program]:-0} + 1))
        cp "$place/now" "$place/$name-${runs[$program]}.log"
        say "$name failed in its run ${runs[$program]}: $(failed_tests "$place/now")"
    fi
    seconds[$program]=$((SECONDS - start))
}

failed_tests() { sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1" | paste -sd' '; }

is_due() { ((${seconds[$1]:-0} < quick_seconds || $2 % 10 == 0)); }

sum_up() {
    local program count=0
    for program in "${!failures[@]}"; do
        printf '  %s failed in %s of %s runs\n' "$(basename "$program")" "${failures[$program]}" "${runs[$program]}" >&2
        count=$((count + failures[$program]))
    done
    say "$round rounds in $((SECONDS / 60)) minutes: $count failures${failures[*]:+, their output is in $place}"
    ((count == 0))
}

mapfile -t all < <(programs)
((${#all[@]} > 0)) || { say "no test programs were found"; exit 1; }
make_load
end=$((SECONDS + minutes * 60)) round=0
while ((SECONDS < end)); do
    for entry in "${all[@]}"; do
        ((SECONDS < end)) || break
        if is_due "${entry#* }" "$round"; then
            run "${entry%% *}" "${entry#* }" "$@"
        fi
    done
    round=$((round + 1))
    say "round $round ended after $((SECONDS / 60)) minutes"
done
sum_up
