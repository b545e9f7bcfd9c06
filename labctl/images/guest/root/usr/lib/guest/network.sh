#!/bin/sh
# DHCP on eth0: 20 discovers 3 s apart (a port may not be wired yet), then on in the background for ever. IPv6 beside
# it: an address from router advertisements, or from DHCPv6 where they say so; most networks have neither.
[ -e /sys/class/net/eth0 ] || { echo "no network device"; exit 0; }
ip link set eth0 up
[ ! -d /proc/sys/net/ipv6 ] || dhcpcd -6 -q -b -f /dev/null -c /bin/true eth0 >/dev/null 2>&1 </dev/null &
# mtu 26, classless static routes 121 (the way to 169.254.169.254 through the DHCP agent)
udhcpc -i eth0 -s /usr/lib/guest/udhcpc -p /run/udhcpc.eth0.pid -b -t 20 -T 3 -A 3 -O mtu -O staticroutes \
    -O search -x "hostname:$(hostname)" 2>&1
