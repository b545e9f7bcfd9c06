#!/bin/sh
# The beginning of /init of a bootable disk's initramfs: load the drivers, find the root partition, let it fill its disk.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

load() {
    while read -r module; do
        insmod "/modules/$module" 2>/dev/null
    done <"/modules/$1"
}

# The label "root" is at byte 120 of ext4's superblock, which starts at byte 1024. It is looked for by name of disk,
# since the first disk is the one that booted.
find_root() {
    for name in vda sda vdb sdb; do
        [ -b "/dev/${name}2" ] || continue
        [ "$(dd if="/dev/${name}2" bs=1 skip=1144 count=4 2>/dev/null)" = root ] && return 0
    done
    return 1
}

wait_for_root() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
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
    printf '%b' "$(byte "$want" 0)$(byte "$want" 8)$(byte "$want" 16)$(byte "$want" 24)" |
        dd of="/dev/$name" bs=1 seek=474 conv=notrunc 2>/dev/null
    sync
    blockdev --rereadpt "/dev/$name"
}

give_up() {
    echo "labctl: $1; the machine is powered off"
    sync
    poweroff -f
}

load all
wait_for_root || give_up "no disk has a second partition with the label root"
grow
mount -t ext4 -o noatime,noinit_itable "/dev/${name}2" /new || give_up "its root disk cannot be mounted"
