#!/bin/sh
# Vagrant's own card comes first in every machine and is known by its address (02:76:61, "va"); the lab's cards are
# eth0, eth1 … as on the machines of every other driver.
name_cards() {
    number=0
    for card in /sys/class/net/eth*; do
        [ -e "$card" ] && ip link set "${card##*/}" name "new${card##*/eth}"
    done
    for index in 0 1 2 3 4 5 6 7; do
        [ -e "/sys/class/net/new$index" ] || continue
        case $(cat "/sys/class/net/new$index/address") in
        02:76:61:*) ip link set "new$index" name vagrant0 ;;
        *)
            ip link set "new$index" name "eth$number"
            number=$((number + 1))
            ;;
        esac
    done
}

name_cards
# an id of its own for each machine that was made of the box
[ -s /new/etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/new/etc/machine-id
