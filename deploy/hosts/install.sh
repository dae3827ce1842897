#!/usr/bin/env bash
# Installs, upgrades and removes Weft on a plain Linux host. `install.sh --help` says how.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root='' from='' purge=0 changed=0
bin=/usr/local/bin
man=/usr/local/share/man/man1
completions=/usr/local/share/bash-completion/completions
units=/etc/systemd/system
config=/etc/weft
data=/var/lib/weft-controller

say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

usage() {
    cat <<'TEXT'
Usage: install.sh controller [--from DIR] [--root DIR] --pool CIDR=NODE_PREFIX [OPTION...]
       install.sh agent [--from DIR] [--root DIR] --node NAME --controller HOST:PORT... --token-file FILE
                        [--open-firewall --pool CIDR... [--port PORT] [--link LINK]]
       install.sh uninstall [--purge] [--root DIR]

controller  Installs weft-controller and weft, makes a new cluster in /var/lib/weft-controller with `weft-controller
            init OPTION...` unless there is one, and starts the service as user weft. The operator's identity for
            `weft` goes to /etc/weft/operator.
agent       Installs weft-agent, weft-cni and weft, writes /etc/weft/agent.yaml unless it is there, puts the join token
            to /etc/weft/token, tells NetworkManager and systemd-networkd to leave Weft's links alone, and starts the
            service.
uninstall   Stops the services, removes what Weft made in the kernel, and all programs and units. Pods lose their
            network. Configuration and the controller's data stay; --purge removes them too.

  --open-firewall  has firewalld or ufw, whichever is active, take the tunnel's packets and trust the pools, for good;
                   `uninstall` takes it back. firewall.sh does the same alone, and its --help says what the options mean

  --from DIR  where the programs are [default: target/release of this checkout]
  --root DIR  installs below DIR, such as an image's root: no user is made, no service started

Running it again is harmless: it replaces what differs, keeps the configuration, and restarts a service only where
something changed. So it upgrades too. Where systemd does not run, it prints the commands that start Weft by hand.
TEXT
}

# --- files ----------------------------------------------------------------------------------------------------------

# put MODE SOURCE TARGET: replaces the target where it differs. A rename: a running program is not "text file busy".
put() {
    local mode=$1 source=$2 target=$root$3
    mkdir -p "$(dirname "$target")"
    if cmp -s "$source" "$target" && [ "$(stat -c %a "$target")" = "$mode" ]; then
        return
    fi
    install -m "$mode" "$source" "$target.new"
    mv -f "$target.new" "$target"
    changed=1
    say "  installed $target"
}

drop() {
    local path
    for path; do
        if [ -e "$root$path" ]; then
            rm -rf -- "$root$path"
            say "  removed $root$path"
        fi
    done
}

# The programs of this host, with their manual pages and bash completion.
put_programs() {
    local program scratch
    for program; do
        [ -x "$from/$program" ] || die "$from/$program: not found; build it with ./dev build --release, or say where it is with --from DIR"
    done
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064  # now, while the name is known
    trap "rm -rf '$scratch'" EXIT
    for program; do
        put 755 "$from/$program" "$bin/$program"
        # The plugin is run by container runtimes only.
        [ "$program" != weft-cni ] || continue
        "$from/$program" man "$scratch/man"
        "$from/$program" completion bash >"$scratch/$program"
        put 644 "$scratch/$program" "$completions/$program" >/dev/null
    done
    local page
    for page in "$scratch"/man/*.1; do
        put 644 "$page" "$man/$(basename "$page")" >/dev/null
    done
    say "  bash completion is in $root$completions, manual pages are in $root$man"
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

install_controller() {
    say "Installing Weft's controller"
    put_programs weft-controller weft
    put 644 "$here/weft-controller.service" "$units/weft-controller.service"
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

install_agent() {
    local node='' controllers='' token='' opens=0 firewall=()
    while [ $# != 0 ]; do
        if [ "$1" = --open-firewall ]; then
            opens=1
            shift
            continue
        fi
        [ $# -ge 2 ] || die "$1 takes a value; see install.sh --help"
        case $1 in
            --node) node=$2 ;;
            --controller) controllers+="${controllers:+, }'$2'" ;;
            --token-file) token=$2 ;;
            --pool | --port | --link) firewall+=("$1" "$2") ;;
            *) die "option $1 is not known for agent: set what agent.yaml has there, after the installation" ;;
        esac
        shift 2
    done
    [[ "$node" =~ ^[a-z0-9.-]*$ ]] || die "--node $node: a node's name has lower-case letters, digits, '-' and '.' only"
    [[ "$controllers" =~ ^[][a-zA-Z0-9.:\',\ -]*$ ]] || die "--controller $controllers: give HOST:PORT"
    [ "$opens" = 1 ] || [ ${#firewall[@]} = 0 ] || die "${firewall[0]} goes with --open-firewall only: the agent learns it from the controller"
    say "Installing Weft's agent"
    put_programs weft-agent weft-cni weft
    put 644 "$here/weft-agent.service" "$units/weft-agent.service"
    put 644 "$here/networkmanager.conf" /etc/NetworkManager/conf.d/90-weft.conf
    put 644 "$here/networkd.network" /etc/systemd/network/05-weft.network
    put 644 "$here/networkd.link" /etc/systemd/network/05-weft.link
    put_agent_config "$node" "$controllers"
    put_token "$token"
    # The unit may write into these two, once they are there.
    mkdir -p "$root/opt/cni/bin" "$root/etc/cni/net.d"
    reload_network_managers
    # Below another root no firewall runs.
    if [ "$opens" = 1 ] && [ -z "$root" ]; then "$here/firewall.sh" open ${firewall[@]+"${firewall[@]}"}; fi
    start weft-agent.service "$bin/weft-agent run --config $config/agent.yaml"
}

# --- the way out ------------------------------------------------------------------------------------------------------

stop_services() {
    local unit
    systemd_runs || return 0
    for unit in weft-agent.service weft-controller.service; do
        [ ! -e "$units/$unit" ] || systemctl --quiet disable --now "$unit"
    done
}

uninstall() {
    [ $# = 0 ] || die "uninstall takes --purge and --root only, not $1"
    say "Removing Weft"
    stop_services
    if [ -z "$root" ] && [ -x "$bin/weft-agent" ] && [ -e "$config/agent.yaml" ]; then
        "$bin/weft-agent" cleanup --config "$config/agent.yaml" ||
            die "the agent's work was not removed, for the reason above; nothing else was"
    fi
    [ -n "$root" ] || "$here/firewall.sh" close
    local program page
    for program in weft weft-agent weft-controller; do
        drop "$bin/$program" "$completions/$program"
    done
    for page in "$root$man"/weft.1 "$root$man"/weft-*.1; do
        drop "${page#"$root"}" >/dev/null
    done
    drop "$bin/weft-cni" "$units/weft-agent.service" "$units/weft-controller.service"
    drop /etc/NetworkManager/conf.d/90-weft.conf /etc/systemd/network/05-weft.network /etc/systemd/network/05-weft.link
    # What the agent left: notes of pods that went. `cleanup` took its state.
    drop /run/weft /var/lib/weft
    if systemd_runs; then systemctl daemon-reload; fi
    reload_network_managers
    if [ "$purge" = 1 ]; then
        drop "$config" "$data"
        if [ -z "$root" ] && getent passwd weft >/dev/null; then userdel weft && say "  removed system user weft"; fi
    elif [ -e "$root$config" ] || [ -e "$root$data" ]; then
        say "Kept $root$config and $root$data, where they are; --purge removes them, and with them the cluster's authority"
    fi
}

# --- the command line -------------------------------------------------------------------------------------------------

# Takes --from, --root and --purge out of the arguments; the others go to `rest`.
rest=()
common() {
    while [ $# != 0 ]; do
        case $1 in
            --from | --root)
                [ $# -ge 2 ] || die "$1 takes a directory"
                if [ "$1" = --from ]; then from=$2; else root=${2%/}; fi
                shift
                ;;
            --purge) purge=1 ;;
            *) rest+=("$1") ;;
        esac
        shift
    done
    from=${from:-${CARGO_TARGET_DIR:-$here/../../target}/release}
    [ -z "$root" ] || root=$(mkdir -p "$root" && cd "$root" && pwd)
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || die "this changes the system: run it as root, or try it with --root DIR"
}

what=${1:-help}
[ $# = 0 ] || shift
case $what in
    controller | agent | uninstall) common "$@" ;;
esac
case $what in
    controller) install_controller ${rest[@]+"${rest[@]}"} ;;
    agent) install_agent ${rest[@]+"${rest[@]}"} ;;
    uninstall) uninstall ${rest[@]+"${rest[@]}"} ;;
    help | --help | -h) usage ;;
    *)
        usage >&2
        die "no command '$what'"
        ;;
esac
