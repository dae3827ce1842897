#!/usr/bin/env bash
# Runs the tests again and again beside busy cores: soak.sh MINUTES [ARGUMENT...], for ./dev test --soak. They run in parts, one
# for each module of each test program, as few programs have most of the tests.
#
# Owns the order of the parts, the load, and the summary. Must never end at a failure: a test that fails now and then is
# what it looks for. Whoever calls it has built everything, and looks for what was left behind.
set -euo pipefail
cd "$(dirname "$0")/.."

# A part that takes longer runs in every tenth round only.
quick_seconds=15
# How many parts run at once.
at_once=$((2 * $(nproc)))
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

# Each part is called as its program's file and its module, with a colon between; the module is empty where a test is in none.
parts=()
declare -A directories tests

# Sorts the tests that the arguments choose into parts.
find_parts() {
    local directory program test module part
    while read -r directory program; do
        while read -r test; do
            module=
            [[ $test != *::* ]] || module=${test%%::*}
            part=$program:$module
            [ -n "${tests[$part]:-}" ] || parts+=("$part")
            directories[$part]=$directory
            tests[$part]+="$test "
        done < <(cd "$directory" && "$program" --list --format terse "$@" </dev/null | sed -n 's/: test$//p')
    done < <(programs)
}

# What people call it: the program's name without cargo's hash, and the module.
title() {
    local program=${1%:*} module=${1##*:}
    program=$(basename "$program")
    printf '%s' "${program%-*}${module:+-$module}"
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
# run PART ARGUMENT...: leaves how long it took, and its output where it failed, for `account`.
run() {
    local part=$1 exact=(--exact) names title start=$SECONDS status=0
    shift
    # It may be given once only.
    [[ " $* " != *" --exact "* ]] || exact=()
    read -ra names <<<"${tests[$part]}"
    title=$(title "$part")
    (cd "${directories[$part]}" && exec "${part%:*}" "${exact[@]}" "${names[@]}" "$@") >"$place/$title.now" 2>&1 || status=$?
    ((status != 0)) || rm "$place/$title.now"
    echo $((SECONDS - start)) >"$place/$title.seconds"
}

account() {
    local part=$1 title
    title=$(title "$part")
    runs[$part]=$((${runs[$part]:-0} + 1))
    seconds[$part]=$(<"$place/$title.seconds")
    if [ -e "$place/$title.now" ]; then
        failures[$part]=$((${failures[$part]:-0} + 1))
        mv "$place/$title.now" "$place/$title-${runs[$part]}.log"
        say "$title failed in its run ${runs[$part]}: $(failed_tests "$place/$title-${runs[$part]}.log")"
    fi
}

# Most of what tests do is wait, so a few parts run at once, and are a load for each other.
run_round() {
    local part due=() begun=()
    for part in "${parts[@]}"; do
        ! is_due "$part" "$round" || due+=("$part")
    done
    for part in "${due[@]}"; do
        ((SECONDS < end)) || break
        while (($(jobs -rp | wc -l) >= at_once + ${#load[@]})); do wait -n || true; done
        run "$part" "$@" &
        begun+=("$part:$!")
    done
    for part in "${begun[@]}"; do
        wait "${part##*:}" || true
        account "${part%:*}"
    done
}

failed_tests() { sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1" | paste -sd' '; }

is_due() { ((${seconds[$1]:-0} < quick_seconds || $2 % 10 == 0)); }

sum_up() {
    local part count=0
    for part in "${!failures[@]}"; do
        printf '  %s failed in %s of %s runs\n' "$(title "$part")" "${failures[$part]}" "${runs[$part]}" >&2
        count=$((count + failures[$part]))
    done
    say "$round rounds in $((SECONDS / 60)) minutes: $count failures${failures[*]:+, their output is in $place}"
    for part in "${parts[@]}"; do
        printf '%4s runs of %s, the last in %s s\n' "${runs[$part]:-0}" "$(title "$part")" "${seconds[$part]:-0}"
    done | sort -rn >"$place/summary"
    ((count == 0))
}

find_parts "$@"
((${#parts[@]} > 0)) || { say "no tests were found"; exit 1; }
make_load
end=$((SECONDS + minutes * 60)) round=0
while ((SECONDS < end)); do
    run_round "$@"
    round=$((round + 1))
    say "round $round ended after $((SECONDS / 60)) minutes"
done
sum_up
