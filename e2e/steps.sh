# How the longer commands of ./dev talk, and where they keep what they built.
#
# Sourced after `command_name` is set. Must change nothing on the machine by being sourced.
# shellcheck shell=bash disable=SC2034,SC2154

# Where what was built is kept, below one directory that may be deleted at any time.
cache=${WEFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weft}

# Handed down to the scripts that a script calls.
export WEFT_STEPS_SINCE=${WEFT_STEPS_SINCE:-$EPOCHSECONDS}
# One line for each step, with the seconds since the first script began.
step() { printf '\033[1m==> %4ss  %s\033[0m\n' "$((EPOCHSECONDS - WEFT_STEPS_SINCE))" "$*" >&2; }
die() { printf './dev %s: %s\n' "$command_name" "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# One at a time does what the lock is named after, for as long as this shell lives: alone NAME
alone() {
    mkdir -p "$cache"
    exec 9>"$cache/$1.lock"
    flock 9
}
