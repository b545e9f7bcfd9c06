#!/bin/sh
# What a gateway does at its start: its cards as its seed says; a bridge for each network comes with the first tunnel.
mkdir -p /dev/pts /run /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mkdir -p /run/sshd /dev/net
hostname -F /etc/hostname
modprobe -a tun bridge virtio_net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
while read -r line; do
    # shellcheck disable=SC2086 # words of ip
    [ -z "$line" ] || ip $line
done </etc/labctl/network
echo "$(hostname) is up"
