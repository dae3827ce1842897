#!/usr/bin/env bash
# A machine with one of Debian's kernels, for one command: ./dev vm. `./dev` has built the programs.
#
# Owns the order of the steps and the choice of the accelerator. Must leave nothing behind but what $place keeps for the next time.
set -euo pipefail
# shellcheck source=e2e/vm/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=e2e/vm/machine.sh
. "$here/machine.sh"

# Whether a machine comes up under KVM: a device is no proof. Asked once for each kernel, here and there.
kvm_works() {
    local verdict
    [ -w /dev/kvm ] && [ "$arch" = "$native" ] || return 1
    verdict=$place/kvm-$(uname -r)-$(basename "$kernel")
    if [ ! -f "$verdict" ]; then
        step "Trying KVM"
        order piped true >"$run/order"
        make_initrd
        limit=30 boot kvm /dev/null >/dev/null 2>&1
        if [ "$(exit_code)" = 0 ]; then echo yes; else echo no; fi >"$verdict"
    fi
    [ "$(<"$verdict")" = yes ]
}

# The paths of the test programs in the list, built where that is needed.
test_programs() {
    local package program wanted=()
    while read -r package program _; do
        [[ $package = '#'* ]] || wanted+=(--package "$package" --test "$program")
    done <"$here/tests"
    cargo test --quiet --locked --no-run --message-format=json "${wanted[@]}" |
        sed -n 's/.*"kind":\["test"\].*"executable":"\([^"]*\)".*/\1/p'
}

# A version that comes after that of the packages in a directory.
version_after() { printf '%s+next' "$(dpkg-deb --field "$1"/weft_*.deb Version)"; }

# Before anything is installed: what can be said without it.
check() {
    local distribution
    read -r distribution _ < <(release)
    case $distribution in
        debian | ubuntu) ;;
        *) die "needs Debian or Ubuntu, whose packages it puts into the machine, and this is $distribution: ./dev test and ./dev demo run here" ;;
    esac
}

if [ "$1" = --check ]; then
    check
    exit
fi
kernel=$1
shift
line=piped input=/dev/null limit='' arguments='' tests=() kubernetes=() systemd=false packages='' without=()
[ ! -t 1 ] || line=watched
case ${1:-} in
    systemd)
        systemd=true
        shift
        [ $# != 0 ] || set -- /opt/vm/hosts
        ;;
    packages) systemd=true ;;
esac
case ${1:-shell} in
    shell)
        if [ "$line" != watched ] || [ ! -t 0 ]; then
            die "a shell needs a terminal: name a command, see ./dev vm --help"
        fi
        line=typed input=/dev/stdin terminal=$(stty -g)
        set -- bash --login -i
        ;;
    demo) set -- weft-lab "$@" ;;
    packages)
        [ $# = 1 ] || die "packages takes nothing more, not $2"
        set -- /opt/vm/packages
        packages=yes
        ;;
    ipvs)
        [ "$arch" = "$native" ] || die "ipvs runs programs that Go builds for this machine: leave --arch out"
        shift
        set -- weft-lab services "$@"
        "$root/e2e/kind/binaries.sh" etcd kubernetes
        kubernetes=(kubernetes/kube-apiserver:kube-apiserver kubernetes/kube-proxy:kube-proxy etcd/server:etcd)
        ;;
    test)
        shift
        set -- /opt/vm/test "$@"
        step "Building the tests"
        mapfile -t tests < <(test_programs)
        [ ${#tests[@]} != 0 ] || die "the tests were not built"
        ;;
    refusals)
        set -- /opt/vm/refusals modules
        without=(no-ipv6:ipv6.disable=1)
        ;;
esac
kernel=$("$here/kernel.sh" "$kernel")
rootfs=$("$here/rootfs.sh")
make_run
if [ -n "$packages" ]; then
    packages=$run/packages
    "$root/deploy/packages/build.sh" --debug --out "$packages/old"
    "$root/deploy/packages/build.sh" --debug --out "$packages/new" --version "$(version_after "$packages/old")"
fi
packages=$packages "$here/programs.sh" "$run/programs.sqfs" "${tests[@]}" "${kubernetes[@]/#/$cache/go/}"
accelerator=tcg
if kvm_works; then
    accelerator=kvm
else
    # Limits of waiting are for a real machine.
    export WEFT_TEST_PATIENCE=${WEFT_TEST_PATIENCE:-10}
fi
# run COMMAND [ARGUMENT...]: has a machine do it, from its start to its end.
run() {
    order "$line" "$@" >"$run/order"
    make_initrd
    step "Starting Linux $(basename "$kernel" | sed 's/^kernel-//') ($accelerator)${arguments:+ with $arguments}"
    boot "$accelerator" "$input"
    while wants_again; do
        step "Starting it again"
        boot "$accelerator" "$input"
    done
    code=$(exit_code) || die "the machine ended before the command did: $(tail -n 40 "$run/said")"
    step "The command ended with exit code $code"
}

! "$systemd" || make_disk
run "$@"
# Machines of other kernel arguments, one for each.
for each in ${without[@]+"${without[@]}"}; do
    [ "$code" = 0 ] || break
    arguments=${each#*:}
    run "$1" "${each%%:*}"
done
exit "$code"
