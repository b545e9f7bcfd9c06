#!/bin/sh
# A server's configuration drive makes the disk this machine: its user data is an archive of the node's own files.
find_drive() {
    for drive in /dev/sr0 /dev/sr1 /dev/vd? /dev/sd?; do
        [ -b "$drive" ] || continue
        for kind in iso9660 vfat; do
            mount -t "$kind" -o ro "$drive" /seed 2>/dev/null || continue
            [ -e /seed/openstack/latest/user_data ] && return 0
            umount /seed
        done
    done
    return 1
}

wait_for_drive() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        find_drive && return 0
        usleep 100000
    done
    return 1
}

mkdir /seed /data
wait_for_drive || give_up "it has no configuration drive with user data"
tar -xzf /seed/openstack/latest/user_data -C /data || give_up "its user data is no archive of labctl's"
umount /seed
# the same seed again changes nothing: what the machine did to its own files stays
if ! cmp -s /data/mark /new/etc/labctl-node; then
    { tar -xf /data/node.tar -C /new && cp /data/mark /new/etc/labctl-node; } || give_up "its seed cannot be unpacked"
fi
rm -r /data
