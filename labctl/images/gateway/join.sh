#!/bin/sh
# labctl-join CARD MTU: join the tunnel of this SSH connection with the network behind a card, until the connection ends.
set -eu
card=$1 mtu=$2
tunnel=${SSH_TUNNEL:?the connection has no tunnel}
[ -d "/sys/class/net/br-$card" ] || {
    ip link add name "br-$card" type bridge
    ip link set "$card" master "br-$card"
}
ip link set "$card" mtu "$mtu" up
ip link set "$tunnel" mtu "$mtu" master "br-$card" up
ip link set "br-$card" up
echo joined
# the kernel removes the tunnel's end with the connection
while [ -d "/sys/class/net/$tunnel" ]; do
    sleep 2
done
