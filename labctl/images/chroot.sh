#!/bin/sh
# chroot.sh ROOT LOWER UPPER WORK [ro|rw SOURCE TARGET]... -- COMMAND...
# Runs COMMAND in an overlay of image layers. labctl starts it in a mount and a process namespace of its own,
# so that however it ends, no mount and no process of it stays.
set -eu
root=$1 lower=$2 upper=$3 work=$4
shift 4
# Nothing that is written here has to outlive a crash: a build that was cut off is thrown away. The kernel marks a
# volatile overlay's directory, so that nobody takes it for whole by mistake; the next command of the build may.
rm -rf "$work/work/incompat"
layers="lowerdir=$lower,upperdir=$upper,workdir=$work"
mount -t overlay -o "$layers,volatile" labctl-build "$root" 2>/dev/null ||
    mount -t overlay -o "$layers" labctl-build "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
while [ "$1" != -- ]; do
    mode=$1 source=$2 target=$root$3
    shift 3
    if [ -d "$source" ]; then
        mkdir -p "$target"
    else
        mkdir -p "$(dirname "$target")"
        # a link would lead out of the tree
        [ ! -h "$target" ] || rm "$target"
        [ -e "$target" ] || : >"$target"
    fi
    mount --bind "$source" "$target"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$target"
done
shift
exec chroot "$root" "$@"
