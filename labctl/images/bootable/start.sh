#!/bin/sh
# The end of it: hand over to the root's own init.
mount --move /dev /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
exec switch_root /new /sbin/init
