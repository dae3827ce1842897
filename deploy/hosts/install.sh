#!/usr/bin/env bash
# Installs, upgrades and removes Weft on a plain Linux host. `install.sh --help` says how.
set -euo pipefail

# shellcheck source=deploy/hosts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
from='' purge=0
bin=/usr/local/bin
man=/usr/local/share/man/man1
completions=/usr/local/share/bash-completion/completions
units=/etc/systemd/system

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

# --- the two roles ----------------------------------------------------------------------------------------------------

# What packages own stays theirs.
not_packaged() {
    local package
    [ -z "$root" ] && has dpkg-query || return 0
    for package; do
        ! dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            die "$package is installed here by a package: upgrade, configure (weft-setup) and remove it as such"
    done
}

install_controller() {
    not_packaged weft-controller
    say "Installing Weft's controller"
    put_programs weft-controller weft
    put 644 "$here/weft-controller.service" "$units/weft-controller.service"
    setup_controller "$@"
}

install_agent() {
    not_packaged weft-agent
    read_agent_options "$@"
    say "Installing Weft's agent"
    put_programs weft-agent weft-cni weft
    put 644 "$here/weft-agent.service" "$units/weft-agent.service"
    put 644 "$here/networkmanager.conf" /etc/NetworkManager/conf.d/90-weft.conf
    put 644 "$here/networkd.network" /etc/systemd/network/05-weft.network
    put 644 "$here/networkd.link" /etc/systemd/network/05-weft.link
    reload_network_managers
    setup_agent
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
    not_packaged weft-agent weft-controller
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
