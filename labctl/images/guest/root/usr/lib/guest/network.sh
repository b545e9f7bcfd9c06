#!/bin/sh
# DHCP on eth0: 20 discovers 3 s apart (a port may not be wired yet), then on in the background for ever.
[ -e /sys/class/net/eth0 ] || { echo "no network device"; exit 0; }
ip link set eth0 up
# mtu 26, classless static routes 121 (the way to 169.254.169.254 through the DHCP agent)
udhcpc -i eth0 -s /usr/lib/guest/udhcpc -p /run/udhcpc.eth0.pid -b -t 20 -T 3 -A 3 -O mtu -O staticroutes \
    -O search -x "hostname:$(hostname)" 2>&1
