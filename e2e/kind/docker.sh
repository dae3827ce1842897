# A dockerd of our own where none answers, and its end.
#
# Sourced. Owns $state/dockerd.*; must never stop a dockerd that it did not start, nor undo a setting it did not change.
# shellcheck shell=bash disable=SC2154

docker_answers() { docker version >/dev/null 2>&1; }

# Keeps what a setting of the kernel was before the first change: set_sysctl FILE VALUE
set_sysctl() {
    local kept
    kept=$state/sysctl/${1//\//.}
    [ "$(<"/proc/sys/$1")" != "$2" ] || return 0
    mkdir -p "$state/sysctl"
    [ -f "$kept" ] || printf '%s %s\n' "$1" "$(<"/proc/sys/$1")" >"$kept"
    printf '%s\n' "$2" >"/proc/sys/$1"
}

restore_sysctls() {
    local kept name value
    for kept in "$state"/sysctl/*; do
        [ -f "$kept" ] || continue
        read -r name value <"$kept"
        printf '%s\n' "$value" >"/proc/sys/$name"
        rm "$kept"
    done
    rmdir "$state/sysctl" 2>/dev/null || true
}

# Says in docker_was_down whether no dockerd ran.
# shellcheck disable=SC2034  # Whoever sourced this reads it.
start_docker() {
    docker_was_down=false
    docker_answers && return
    docker_was_down=true
    has dockerd || die "docker does not answer, and there is no dockerd to start: start Docker, or install docker.io"
    step "Starting dockerd"
    local bounded=() forwarding
    if (((0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status) >> 24 & 1) == 0)); then
        bounded=(--add-runtime "bounded=$here/runc-within-bounds" --default-runtime bounded)
    fi
    # dockerd changes these without remembering what they were.
    for forwarding in net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv6/conf/default/forwarding; do
        set_sysctl "$forwarding" 1
    done
    setsid nohup dockerd "${bounded[@]}" --pidfile "$state/dockerd.pid" >"$state/dockerd.log" 2>&1 </dev/null 8>&- &
    local own=$!
    until docker_answers; do
        kill -0 "$own" 2>/dev/null || die "dockerd ended at once: see $state/dockerd.log"
        sleep 0.2
    done
}

# Stops the dockerd that start_docker started, and takes out of the way what every dockerd leaves behind.
stop_docker() {
    [ -f "$state/dockerd.pid" ] || return 0
    local own command
    own=$(<"$state/dockerd.pid")
    if [ "$(cat "/proc/$own/comm" 2>/dev/null)" = dockerd ]; then
        step "Stopping dockerd"
        kill "$own"
        tail --pid="$own" -f /dev/null
    fi
    ip link delete docker0 2>/dev/null || true
    for command in iptables ip6tables; do
        "$command-save" | sed '/DOCKER/d; /docker0/d; s/^:FORWARD DROP/:FORWARD ACCEPT/' | "$command-restore"
    done
    forget_empty_tables
    rm -f "$state"/dockerd.*
}

# iptables leaves its tables behind when their last rule goes.
forget_empty_tables() {
    local family table
    has nft || return 0
    for family in ip ip6; do
        for table in filter nat raw mangle; do
            if ! nft list table "$family" "$table" 2>/dev/null | grep -vE '^(#|table|\s*chain|\s*type .* policy accept;|\s*})|^\s*$' | grep -q .; then
                nft delete table "$family" "$table" 2>/dev/null || true
            fi
        done
    done
}
