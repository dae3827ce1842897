# One machine from its start to its end, by qemu.
#
# Sourced by vm.sh, whose $kernel, $rootfs and $arguments it reads. Owns $run, which goes with the script, and qemu, which never outlives it: not even a script that was killed.
# shellcheck shell=bash disable=SC2154

memory=${WEFT_VM_MEMORY:-3072}
qemu='' terminal='' disk=''
# The machine of each processor, and what its second serial line is called in there.
case $arch in
    amd64) board=(qemu-system-x86_64 -serial chardev:command -serial chardev:said) said=ttyS1 emulated=max ;;
    # Its board has one serial line: the other is a card.
    arm64) board=(qemu-system-aarch64 -machine virt -serial chardev:said -device "pci-serial,chardev=command") said=ttyAMA0 emulated=cortex-a72 ;;
esac

# A directory for this machine, and the end of those whose scripts were killed.
make_run() {
    local old
    mkdir -p "$place"
    for old in "$place"/run.*; do
        [ -d "$old" ] || continue
        if flock --nonblock "$old/lock" true 2>/dev/null; then rm -rf "$old"; fi
    done
    run=$(mktemp -d "$place/run.XXXXXX")
    exec 7>"$run/lock"
    flock 7
    trap end_run EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

end_run() {
    [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || true
    # Where qemu could not do it itself.
    [ -z "$terminal" ] || stty "$terminal" || true
    rm -rf "$run"
}

# order typed|watched|piped COMMAND [ARGUMENT...]: what the machine is to do, as its first programs read it.
order() {
    local name
    printf 'line=%s said=%s size=%q\n' "$1" "$said" "$(stty size 2>/dev/null <&2 | awk '{ print "rows", $1, "columns", $2 }' || true)"
    printf 'export TERM=%q\n' "${TERM:-dumb}"
    # Settings of tests.
    for name in $(compgen -e WEFT_) RUST_BACKTRACE; do
        case $name in WEFT_CACHE | WEFT_STEPS_SINCE | WEFT_*_MIRROR) continue ;; esac
        [ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
    done
    shift
    printf 'command=('
    printf '%q ' "$@"
    printf ')\n'
}

# The archive of the first seconds, with the order that was written to $run/order. Where there is a disk, systemd is the init.
make_initrd() {
    local early=$run/early
    rm -rf "$early"
    mkdir -p "$early"/{bin,proc,dev,vm}
    cp "$rootfs/busybox" "$early/bin/busybox"
    ln -s busybox "$early/bin/sh"
    cp -r "$kernel/early" "$early/early"
    cp "$here/guest/early" "$early/init"
    cp "$here"/guest/* "$here/tests" "$run/order" "$early/vm/"
    [ -z "$disk" ] || touch "$early/vm/systemd"
    (cd "$early" && find . | cpio --create --format newc --owner 0:0 --quiet) >"$run/initrd"
}

# boot ACCELERATOR INPUT: runs qemu to its end, or for $limit seconds. What kernel and init say is in $run/said.
boot() {
    local cpu=$emulated signals=on accelerator=$1 input=$2
    [ "$accelerator" = tcg ] || cpu=host
    [ "$input" = /dev/null ] || signals=off
    [ "$accelerator" != tcg ] || accelerator=tcg,thread=multi
    # An emulated machine that gets no turn for a while at its start would take its timer for broken.
    local append="console=$said panic=1 quiet loglevel=1 no_timer_check $arguments" drives=() drive
    for drive in "$rootfs/tree.sqfs" "$kernel/modules.sqfs" "$run/programs.sqfs"; do
        drives+=(-drive "file=$drive,format=raw,if=virtio,readonly=on")
    done
    if [ -n "$disk" ]; then
        drives+=(-drive "file=$disk,format=raw,if=virtio,cache=unsafe")
        # What systemd says of units goes to its journal, and nobody logs in on the line that says how it ended.
        append+=" systemd.getty_auto=0 systemd.show_status=0"
    fi
    : >"$run/said"
    # The kernel sends the signal when this shell goes, however it goes.
    ${limit:+timeout --foreground "$limit"} nice setpriv --pdeathsig KILL "${board[@]}" \
        -nodefaults -no-user-config -display none -monitor none -no-reboot \
        -accel "$accelerator" -cpu "$cpu" -m "$memory" -smp 2 \
        -chardev "stdio,id=command,signal=$signals" -chardev "file,id=said,path=$run/said" \
        "${drives[@]}" -kernel "$kernel/vmlinuz" -initrd "$run/initrd" -append "$append" <"$input" &
    qemu=$!
    wait "$qemu" || true
    qemu=''
}

# A disk that outlives the machine, for as long as this script lives: what a reboot keeps.
make_disk() {
    disk=$run/disk
    truncate --size 2G "$disk"
    mkfs.ext4 -q -F "$disk"
}

# Whether the command wants the machine started again, from its disk.
wants_again() { grep -q '^weft: again' "$run/said"; }

# The exit code that the command had; fails where the machine ended before.
exit_code() { sed -n 's/^weft: exit \([0-9]*\).*/\1/p' "$run/said" | grep .; }
