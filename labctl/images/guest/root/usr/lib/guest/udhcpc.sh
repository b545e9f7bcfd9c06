#!/bin/sh
# udhcpc tells in $1 what happened and in the environment what the server said.
# shellcheck disable=SC2154 # interface, ip, mask, mtu, router, staticroutes, dns, domain, search: from udhcpc
resolv=${RESOLV_CONF:-/etc/resolv.conf}

set_routes() {
    # RFC 3442: with classless routes the router option does not count.
    if [ -n "$staticroutes" ]; then
        # shellcheck disable=SC2086 # pairs of words: target gateway
        set -- $staticroutes
        while [ $# -ge 2 ]; do
            if [ "$2" = 0.0.0.0 ]; then
                ip route replace "$1" dev "$interface" scope link
            else
                ip route replace "$1" via "$2" dev "$interface" onlink
            fi
            shift 2
        done
        return
    fi
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface" onlink
        break
    done
}

set_resolver() {
    [ -n "$dns" ] || return
    {
        [ -z "$search$domain" ] || echo "search ${search:-$domain}"
        for server in $dns; do
            echo "nameserver $server"
        done
    } >"$resolv.new"
    mv "$resolv.new" "$resolv"
}

case $1 in
deconfig)
    ip -4 addr flush dev "$interface"
    ip link set dev "$interface" up
    ;;
bound | renew)
    [ -z "$mtu" ] || ip link set dev "$interface" mtu "$mtu"
    ip -4 addr show dev "$interface" | grep -q "inet $ip/$mask " || {
        ip -4 addr flush dev "$interface"
        ip addr add "$ip/$mask" brd + dev "$interface"
    }
    set_routes
    set_resolver
    ;;
leasefail | nak)
    echo "udhcpc: $1 on $interface${message:+: $message}"
    ;;
esac
exit 0
