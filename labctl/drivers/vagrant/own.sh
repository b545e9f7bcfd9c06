#!/bin/sh
# Start a program with libvirt's directories replaced by a lab's own: RUN and STATE, then the program.
set -eu
run=$1 state=$2
shift 2
bind() {
    mkdir -p "$1" "$2"
    mount --bind "$1" "$2"
}
bind "$run" /run/libvirt
bind "$state/lib" /var/lib/libvirt
bind "$state/etc" /etc/libvirt
bind "$state/cache" /var/cache/libvirt
bind "$state/log" /var/log/libvirt
exec "$@"
