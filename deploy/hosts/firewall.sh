#!/usr/bin/env bash
# Opens this host's firewall for Weft so that it stays open, and closes it again. `firewall.sh --help` says how.
set -euo pipefail

note=/etc/weft/firewall

say() { printf '%s\n' "$*"; }
die() { printf 'firewall.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

usage() {
    cat <<'TEXT'
Usage: firewall.sh open --pool CIDR... [--port PORT] [--link LINK] [--note FILE]
       firewall.sh close [--note FILE]

open   Tells firewalld or ufw, whichever is active here, to take the tunnel's packets (UDP, by default port 4789) and the
       packets of pods: addresses in the pools are trusted, towards this host too. It stays so when the firewall loads its
       rules again. Running it again changes nothing more.
close  Takes back what `open` did.

  --pool CIDR  a pool of pod CIDRs, as the controller has it; once for each
  --port PORT  the cluster's UDP port for the tunnel [default: 4789]
  --link LINK  the link to the other nodes, whose zone of firewalld gets the port [default: that of the default route]
  --note FILE  where it is written what was opened [default: /etc/weft/firewall]
TEXT
}

# --- firewalld --------------------------------------------------------------------------------------------------------

firewalld_runs() { has firewall-cmd && firewall-cmd --quiet --state 2>/dev/null; }

# The zone that packets of a link come into.
zone_of() { firewall-cmd --get-zone-of-interface="$1" 2>/dev/null || firewall-cmd --get-default-zone; }

# firewalld VERB ZONE PORT POOL...: adds or removes.
firewalld() {
    local verb=$1 zone=$2 port=$3 pool
    shift 3
    firewall-cmd --quiet --permanent --zone="$zone" "--$verb-port=$port/udp"
    for pool; do
        firewall-cmd --quiet --permanent --zone=trusted "--$verb-source=$pool"
    done
    firewall-cmd --quiet --reload
}

# --- ufw --------------------------------------------------------------------------------------------------------------

ufw_runs() { has ufw && ufw status 2>/dev/null | grep -q '^Status: active'; }

# with_ufw WORD... -- PORT POOL...: each rule behind these words, which are none or `delete`.
with_ufw() {
    local words=() port pool
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    port=$2
    shift 2
    ufw ${words[@]+"${words[@]}"} allow proto udp to any port "$port" >/dev/null
    for pool; do
        ufw ${words[@]+"${words[@]}"} allow from "$pool" >/dev/null
        ufw route ${words[@]+"${words[@]}"} allow from "$pool" >/dev/null
        ufw route ${words[@]+"${words[@]}"} allow to "$pool" >/dev/null
    done
}

# --- the commands -----------------------------------------------------------------------------------------------------

open() {
    local pools=() port=4789 link='' zone=''
    while [ $# != 0 ]; do
        [ $# -ge 2 ] || die "$1 takes a value; see firewall.sh --help"
        case $1 in
            --pool) pools+=("$2") ;;
            --port) port=$2 ;;
            --link) link=$2 ;;
            --note) note=$2 ;;
            *) die "option $1 is not known; see firewall.sh --help" ;;
        esac
        shift 2
    done
    [ ${#pools[@]} != 0 ] || die "--pool is missing: give each pool of the controller"
    local pool
    for pool in "${pools[@]}"; do
        [[ $pool =~ ^[0-9a-fA-F.:]+/[0-9]+$ ]] || die "--pool $pool: give a network such as 10.244.0.0/16"
    done
    [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || die "--port $port: give a port between 1 and 65535"
    [ ! -e "$note" ] || close
    if firewalld_runs; then
        link=${link:-$(ip -o route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)}
        zone=$(zone_of "${link:-none}")
        firewalld add "$zone" "$port" "${pools[@]}"
        say "  firewalld takes UDP port $port in zone $zone, and trusts ${pools[*]}"
    elif ufw_runs; then
        with_ufw -- "$port" "${pools[@]}"
        say "  ufw takes UDP port $port, and allows ${pools[*]}"
    else
        say "  neither firewalld nor ufw is active here: no firewall was opened"
        return
    fi
    mkdir -p "$(dirname "$note")"
    printf '%s\n' "${zone:-ufw}" "$port" "${pools[@]}" >"$note"
}

close() {
    [ -e "$note" ] || return 0
    local lines
    mapfile -t lines <"$note"
    if [ "${lines[0]}" != ufw ] && firewalld_runs; then
        firewalld remove "${lines[@]}"
        say "  firewalld does as before"
    elif [ "${lines[0]}" = ufw ] && has ufw; then
        with_ufw delete -- "${lines[@]:1}"
        say "  ufw does as before"
    else
        say "  the firewall that was opened does not run: its rules stay, and $note says which they are"
        return
    fi
    rm "$note"
}

what=${1:-help}
[ $# = 0 ] || shift
case $what in
    open) open "$@" ;;
    close)
        [ "${1:-}" != --note ] || note=${2:?--note takes a file}
        close
        ;;
    help | --help | -h) usage ;;
    *)
        usage >&2
        die "no command '$what'"
        ;;
esac
