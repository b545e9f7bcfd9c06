#!/bin/sh
# /init of the initramfs: load the disk drivers, find the root partition, let it fill its disk, start it.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

load() {
    while read -r module; do
        insmod "/modules/$module" 2>/dev/null
    done <"/modules/$1"
}

# The ext4 label is at byte 120 of the superblock, which starts at byte 1024. Looked for by name of disk, not
# with findfs: a volume made from the same image has the same label, and the first disk is the one that booted.
find_root() {
    for name in vda sda vdb sdb vdc sdc; do
        [ -b "/dev/${name}2" ] || continue
        label=$(dd if="/dev/${name}2" bs=1 skip=1144 count=13 2>/dev/null)
        [ "$label" = cirros-rootfs ] && return 0
    done
    return 1
}

wait_for_root() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        find_root && return 0
        usleep 100000
    done
    return 1
}

byte() { printf '\\0%o' "$(($1 >> $2 & 255))"; }

# Partition 2 is the last one: its length is the 32-bit number at byte 446 + 16 + 12 of the MBR.
grow() {
    start=$(cat "/sys/class/block/${name}2/start")
    have=$(cat "/sys/class/block/${name}2/size")
    want=$(($(cat "/sys/class/block/$name/size") - start))
    [ "$want" -gt 4294967295 ] && want=4294967295
    [ "$want" -gt $((have + 2048)) ] || return 0
    echo "growing ${name}2 from $((have / 2048)) to $((want / 2048)) MiB"
    printf '%b' "$(byte "$want" 0)$(byte "$want" 8)$(byte "$want" 16)$(byte "$want" 24)" |
        dd of="/dev/$name" bs=1 seek=474 conv=notrunc 2>/dev/null
    sync
    blockdev --rereadpt "/dev/$name"
}

load first
wait_for_root || { load rest; wait_for_root; } || {
    echo "no disk with a partition labelled cirros-rootfs; a shell instead:"
    exec sh
}
grow
mount -t ext4 "/dev/${name}2" /new || exec sh
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
exec switch_root /new /sbin/init
