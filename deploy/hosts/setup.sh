#!/usr/bin/env bash
# Configures what is installed on a plain Linux host, and starts it. `setup.sh --help` says how.
#
# In Debian packages it is the command weft-setup; install.sh, which puts programs and units in place itself, sources it for the
# rest. Owns /etc/weft, the controller's directory and its user. Must never put a program or a unit anywhere.
set -euo pipefail
umask 022

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
root='' from=/usr/bin changed=0
bin=/usr/bin
config=/etc/weft
data=/var/lib/weft-controller

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

setup_usage() {
    cat <<'TEXT'
Usage: weft-setup controller --pool CIDR=NODE_PREFIX [OPTION...]
       weft-setup agent --node NAME --controller HOST:PORT... --token-file FILE
                        [--open-firewall --pool CIDR... [--port PORT] [--link LINK]]

controller  Makes a new cluster in /var/lib/weft-controller with `weft-controller init OPTION...` unless there is one, and
            starts the service as user weft. The operator's identity for `weft` goes to /etc/weft/operator.
agent       Writes /etc/weft/agent.yaml unless it is there, puts the join token to /etc/weft/token, and starts the service.

  --open-firewall  has firewalld or ufw, whichever is active, take the tunnel's packets and trust the pools, for good;
                   removing the package takes it back. weft-firewall does the same alone, and its --help says what the
                   options mean

Running it again is harmless: it keeps the configuration, and restarts a service only where something changed. Where systemd
does not run, it prints the commands that start Weft by hand.
TEXT
}

# --- services -------------------------------------------------------------------------------------------------------

systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# start UNIT COMMAND...: starts the service, or says how to start it without systemd.
start() {
    local unit=$1
    shift
    if systemd_runs; then
        systemctl daemon-reload
        systemctl --quiet enable "$unit"
        if [ "$changed" = 1 ]; then systemctl restart "$unit"; else systemctl start "$unit"; fi
        say "Started $unit; its log: journalctl --unit $unit"
    elif [ -n "$root" ]; then
        say "Installed below $root; there, start it with: systemctl enable --now $unit"
    else
        say "systemd does not run here. Start it by hand, or by this system's own means, with:"
        say "  $*"
    fi
}

# Tells what manages links on this host, now and at each boot.
reload_network_managers() {
    systemd_runs || return 0
    if systemctl --quiet is-active NetworkManager; then nmcli general reload conf; fi
    if systemctl --quiet is-active systemd-networkd; then networkctl reload; fi
    if has udevadm; then udevadm control --reload; fi
}

# --- the controller ---------------------------------------------------------------------------------------------------

# In a user namespace that maps one user, files can have no other owner, and the controller runs as who starts it.
has_users() { [ "$(awk '{ ids += $3 } END { print (ids > 1) }' /proc/self/uid_map)" = 1 ]; }

make_user() {
    [ -z "$root" ] || return 0
    if has_users && ! getent passwd weft >/dev/null; then
        useradd --system --user-group --home-dir "$data" --no-create-home --shell /usr/sbin/nologin weft
        say "  made system user weft"
    fi
}

# A new cluster, made in one place and then given to whom it belongs: the key to the service, the operator to root.
make_cluster() {
    local dir=$root$data file=$root$config/controller.yaml
    if [ -e "$file" ]; then
        [ $# = 0 ] || say "  kept $file: the options given here change nothing, edit the file"
        return
    fi
    if [ -e "$dir/ca.key" ]; then
        [ -e "$dir/config.yaml" ] || die "$dir has a cluster's key and $file is missing: restore that file, or, for a new cluster, remove $dir"
    else
        "$from/weft-controller" init --data-dir "$dir" "$@" >/dev/null
    fi
    mkdir -p "$root$config"
    [ ! -e "$dir/operator" ] || mv "$dir/operator" "$root$config/operator"
    sed "s|'$root/|'/|g" "$dir/config.yaml" >"$file.new"
    chmod 644 "$file.new"
    mv "$file.new" "$file"
    rm "$dir/config.yaml"
    changed=1
    say "  made a new cluster: $dir, $file, $root$config/operator"
}

# setup_controller OPTION...: a cluster and its service.
setup_controller() {
    make_user
    make_cluster "$@"
    local by_hand="$bin/weft-controller run --config $config/controller.yaml"
    if [ -z "$root" ] && has_users; then
        chown -R weft:weft "$data"
        by_hand="runuser -u weft -- $by_hand"
    fi
    start weft-controller.service "$by_hand"
}

# --- the agent --------------------------------------------------------------------------------------------------------

# put_agent_config NODE CONTROLLERS: the file is the operator's once it is there.
put_agent_config() {
    local node=$1 controllers=$2 file=$root$config/agent.yaml
    if [ -e "$file" ]; then
        [ -z "$node$controllers" ] || say "  kept $file: --node and --controller change nothing, edit the file"
        return
    fi
    [ -n "$node" ] || die "--node is missing: give the name that the join token was made for"
    [ -n "$controllers" ] || die "--controller is missing: give the controller's address as HOST:PORT"
    mkdir -p "$root$config"
    sed "s|@NODE@|'$node'|; s|@CONTROLLERS@|$controllers|" "$here/agent.yaml" >"$file.new"
    mv "$file.new" "$file"
    changed=1
    say "  wrote $file"
}

put_token() {
    local token=$1 file=$root$config/token
    [ -n "$token" ] || return 0
    [ -r "$token" ] || die "token file $token: cannot be read; make one on the controller's host with: weft token create NODE"
    ! cmp -s "$token" "$file" || return 0
    (umask 077 && cat "$token" >"$file.new")
    mv "$file.new" "$file"
    changed=1
    say "  put the join token to $file; $token is not needed any more"
}

# What the command line says of an agent.
read_agent_options() {
    node='' controllers='' token='' opens=0 firewall=()
    while [ $# != 0 ]; do
        if [ "$1" = --open-firewall ]; then
            opens=1
            shift
            continue
        fi
        [ $# -ge 2 ] || die "$1 takes a value; see $(basename "$0") --help"
        case $1 in
            --node) node=$2 ;;
            --controller) controllers+="${controllers:+, }'$2'" ;;
            --token-file) token=$2 ;;
            --pool | --port | --link) firewall+=("$1" "$2") ;;
            *) die "option $1 is not known for agent: set what agent.yaml has there" ;;
        esac
        shift 2
    done
    [[ "$node" =~ ^[a-z0-9.-]*$ ]] || die "--node $node: a node's name has lower-case letters, digits, '-' and '.' only"
    [[ "$controllers" =~ ^[][a-zA-Z0-9.:\',\ -]*$ ]] || die "--controller $controllers: give HOST:PORT"
    [ "$opens" = 1 ] || [ ${#firewall[@]} = 0 ] || die "${firewall[0]} goes with --open-firewall only: the agent learns it from the controller"
}

# As those options say.
setup_agent() {
    put_agent_config "$node" "$controllers"
    put_token "$token"
    # The unit may write into these two, once they are there.
    mkdir -p "$root/opt/cni/bin" "$root/etc/cni/net.d"
    # Below another root no firewall runs.
    if [ "$opens" = 1 ] && [ -z "$root" ]; then "$here/firewall.sh" open ${firewall[@]+"${firewall[@]}"}; fi
    start weft-agent.service "$bin/weft-agent run --config $config/agent.yaml"
}

# --- the command line of weft-setup -----------------------------------------------------------------------------------

# Whoever sources this has a command line of its own.
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

# Whether what is to be set up is here.
installed() {
    [ -x "$bin/$1" ] || die "$bin/$1: not found; install the package $1"
    [ "$(id -u)" = 0 ] || die "this changes the system: run it as root"
}

what=${1:-help}
[ $# = 0 ] || shift
case $what in
    controller)
        installed weft-controller
        setup_controller "$@"
        ;;
    agent)
        installed weft-agent
        read_agent_options "$@"
        setup_agent
        ;;
    help | --help | -h) setup_usage ;;
    *)
        setup_usage >&2
        die "no command '$what'"
        ;;
esac
