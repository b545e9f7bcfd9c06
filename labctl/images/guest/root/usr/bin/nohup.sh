#!/bin/sh
# Debian's busybox has no nohup.
trap '' HUP
if [ -t 1 ]; then
    exec >>nohup.out 2>&1
fi
exec "$@"
