# What the scripts of the emulated machine share: places, names, and Debian's packages without a system to install them on.
#
# Sourced, never run. Owns $place/apt. Must change nothing outside of $place, and install nothing on this machine.
# shellcheck shell=bash disable=SC2034,SC2154

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
command_name=vm
. "$root/e2e/steps.sh"
# shellcheck source=deploy/arch.sh
. "$root/deploy/arch.sh"
place=$cache/vm
# Debian's release whose kernels there are: 6.1 is its own, 6.12 came as an update.
kernels=bookworm
# The programs were built with this machine's C library, so the other one has the same: this release's packages.
# shellcheck disable=SC1091
release() { (. /etc/os-release && printf '%s %s\n' "$ID" "${VERSION_CODENAME:-}"); }

# use_packages DISTRIBUTION SUITE ARCH...: apt-get and apt-cache know that release's packages for these processors from here on, and
# nothing installed. This machine's own come from where it has its packages itself.
use_packages() {
    local distribution=$1 suite=$2 archs=("${@:3}")
    local own=$place/apt/$suite-${archs[0]} list=/etc/apt/sources.list parts=/etc/apt/sources.list.d
    mkdir -p "$own/lists/partial" "$own/archives/partial"
    : >"$own/status"
    if [ "$(release)" != "$distribution $suite" ]; then
        [ -n "${WEFT_DEBIAN_MIRROR:-}" ] || die "this machine has the packages of $(release), and what is wanted is of $distribution $suite: set WEFT_DEBIAN_MIRROR to a mirror of it"
        list=$own/sources.list parts=/dev/null
        printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$WEFT_DEBIAN_MIRROR" "$suite" >"$list"
    fi
    cat >"$own/apt.conf" <<CONF
Dir::State "$own";
Dir::State::status "$own/status";
Dir::Cache "$own";
Dir::Etc::sourcelist "$list";
Dir::Etc::sourceparts "$parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "${archs[0]}";
APT::Architectures { $(printf '"%s"; ' "${archs[@]}") };
APT::Sandbox::User "";
Acquire::Languages "none";
CONF
    export APT_CONFIG=$own/apt.conf
    apt-get update -qq >"$own/log" 2>&1 || die "packages of $distribution $suite cannot be listed: see $own/log"
}

# unpack PACKAGE TREE: its files, through links of merged directories, as files of whoever runs this.
unpack() {
    dpkg-deb --fsys-tarfile "$1" | tar --extract --directory "$2" --keep-directory-symlink --no-same-owner
}
