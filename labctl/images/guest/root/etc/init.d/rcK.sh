#!/bin/sh
# The end: busybox init kills the processes only after this, so do it here to be able to unmount the root.
echo "the system is going down"
kill -TERM -1
usleep 700000
kill -KILL -1
sync
umount -a -r 2>/dev/null
mount -o remount,ro / 2>/dev/null
sync
