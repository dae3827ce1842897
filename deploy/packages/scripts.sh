#!/usr/bin/env bash
# What the scripts of Weft's Debian packages do besides starting and stopping units: scripts.sh COMMAND.
#
# Runs as /usr/share/weft/scripts.sh while packages come and go. Must leave alone what a node needs to go on: taking over and
# upgrading change neither configuration nor state nor kernel; only the agent's removal does.
set -euo pipefail
# shellcheck source=deploy/hosts/setup.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"

# take_over PROGRAM...: from an installation by install.sh, the programs of one unit, the one that it is named after first.
take_over() {
    local unit=$1.service old=/etc/systemd/system/$1.service program started=0
    # Both: a unit in that place may as well be the operator's own.
    [ -x "/usr/local/bin/$1" ] && [ -f "$old" ] || return 0
    say "Taking over what install.sh put here: $old and the programs in /usr/local/bin go; configuration, state and pods stay"
    if systemd_runs && systemctl --quiet is-active "$unit"; then started=1; fi
    rm "$old"
    for program in "$@" weft; do
        rm -f "/usr/local/bin/$program" "/usr/local/share/bash-completion/completions/$program"
    done
    remove_pages "$1*"
    remove_pages 'weft*' ! -name 'weft-controller*' ! -name 'weft-agent*'
    # The link that starts it at boot leads to where the unit was.
    if [ -L "/etc/systemd/system/multi-user.target.wants/$unit" ]; then systemctl --quiet reenable "$unit"; fi
    if [ "$started" = 1 ]; then
        systemctl daemon-reload
        systemctl restart "$unit"
    fi
}

# remove_pages NAME [TEST...]: manual pages, as find names them.
remove_pages() {
    [ ! -d /usr/local/share/man/man1 ] || find /usr/local/share/man/man1 -name "$1.1" "${@:2}" -delete
}

controller_installed() {
    make_user
    take_over weft-controller
    [ -e "$config/controller.yaml" ] || say "weft-controller has no cluster yet: make one, and start it, with weft-setup controller"
}

agent_installed() {
    reload_network_managers || say "The network managers could not be told to leave Weft's links alone; they know after the next start"
    take_over weft-agent weft-cni
    [ -e "$config/agent.yaml" ] || say "weft-agent is not configured yet: configure it, and start it, with weft-setup agent"
}

# Once it is stopped, and while its program is here.
agent_removed() {
    [ -e "$config/agent.yaml" ] || return 0
    "$bin/weft-agent" cleanup --config "$config/agent.yaml" ||
        die "what the agent made was not removed, for the reason above, and so the package was not; the agent is stopped"
    "$here/firewall.sh" close
    rm -rf /run/weft
    say "Pods of Weft on this node have no network any more; $config stays until the package is purged"
}

case ${1:-} in
    controller-installed) controller_installed ;;
    agent-installed) agent_installed ;;
    agent-removed) agent_removed ;;
    *) die "no command '${1:-}'" ;;
esac
