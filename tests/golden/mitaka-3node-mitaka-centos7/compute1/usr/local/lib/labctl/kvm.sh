#!/bin/sh
# Does KVM run a guest? Boots a stock 64-bit kernel under it and waits for the first line it prints. /dev/kvm,
# its ioctls and libvirt's own answer can all be right where no kernel ever runs (docs/platform.md).
# usage: kvm.sh QEMU KERNEL SECONDS, the deadline of each processor model
# prints "works MODEL: FIRST LINE" and ends with 0, or "fails: WHY" and ends with 1
qemu=$1 kernel=$2 seconds=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/labctl-kvm.XXXXXX") || exit 2
pid=
# shellcheck disable=SC2317 # called by the trap
clean() {
    [ -z "$pid" ] || { kill -9 "$pid" && wait "$pid"; } 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 2' HUP INT TERM

# ends QEMU with this shell, whose trap does not run when it is killed; util-linux before 2.33 cannot
bound=
! setpriv --pdeathsig KILL true 2>/dev/null || bound="setpriv --pdeathsig KILL"

why=
for model in host qemu64; do
    rm -f "$work/serial"
    # shellcheck disable=SC2086 # words
    $bound "$qemu" -machine pc,accel=kvm -cpu "$model" -m 256 -smp 1 -nodefaults -no-user-config -no-reboot \
        -display none -serial "file:$work/serial" -kernel "$kernel" \
        -append "console=ttyS0 earlyprintk=ttyS0 panic=-1" >"$work/said" 2>&1 </dev/null &
    pid=$!
    end=$(($(date +%s) + seconds))
    ended=
    while :; do
        if line=$(grep -a -m 1 'Linux version' "$work/serial" 2>/dev/null); then
            echo "works $model: $line" | tr -d '\r'
            exit 0
        fi
        [ -z "$ended" ] || break
        kill -0 "$pid" 2>/dev/null || { ended=yes && continue; } # once more: it may have printed and ended
        [ "$(date +%s)" -lt "$end" ] || break
        sleep 0.1
    done
    if [ -n "$ended" ]; then
        said=$(grep -a -m 1 . "$work/said" | cut -c 1-200)
        why="${why}CPU $model: QEMU ended${said:+, }$said; "
    else
        why="${why}CPU $model: no kernel output within $seconds s; "
    fi
    kill -9 "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    pid=
done
echo "fails: ${why%; }"
exit 1
