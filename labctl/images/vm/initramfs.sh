#!/bin/sh
# /init of a virtual machine's initramfs: load the drivers, mount the root disk, make it this machine, start it.
# Disks are known by their serial numbers, which labctl gives them.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

while read -r module; do
    insmod "/modules/$module" || echo "cannot load $module"
done </modules/all

find_disk() { # serial
    for block in /sys/block/vd*; do
        [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ] && disk=/dev/${block##*/} && return 0
    done
    return 1
}

wait_for_disk() { # serial
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        find_disk "$1" && [ -b "$disk" ] && return 0
        usleep 100000
    done
    echo "labctl: no disk with the serial number $1"
    return 1
}

give_up() {
    echo "labctl: $1; the machine is powered off"
    sync
    poweroff -f
}

wait_for_disk _root || give_up "it has no root disk"
mount -t ext4 -o noatime,noinit_itable "$disk" /new || give_up "its root disk cannot be mounted"
if wait_for_disk _seed; then
    mkdir /seed
    mount -t iso9660 -o ro "$disk" /seed || give_up "its seed cannot be mounted"
    # the same seed again changes nothing: what the machine did to its own files stays
    if ! cmp -s /seed/mark /new/etc/labctl-node; then
        { tar -xf /seed/node.tar -C /new && cp /seed/mark /new/etc/labctl-node; } || give_up "its seed cannot be unpacked"
    fi
    umount /seed
fi
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
exec switch_root /new /sbin/init
