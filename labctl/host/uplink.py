"""The way out of a lab whose networks use NAT: one pair of cards between its namespace and the host.

It leads out only. Nodes reach public addresses, but neither the host's own services nor its neighbours, which trust
whoever is in their network: private ranges are refused, except those that the host's user names. The host forwards
packets as long as there is such a pair.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, lock, process

#: Private ranges that nodes reach nevertheless, such as a package mirror's: addresses and networks, by commas.
REACH = "LABCTL_NAT_REACH"
#: Whether the host forwarded packets before the first pair; gone with the last one, or when the host restarts.
BEFORE = Path("/run/labctl/ip_forward")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
#: Networks of four addresses between 169.254.2.0 and 169.254.251.255.
_PAIRS = 16000
_DEVICE = re.compile(r"lab[0-9a-f]{8}")
#: Ranges that no public address is in (RFC 6890), and multicast.
_PRIVATE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
)


def device(name: str) -> str:
    """Name of the host's card of a lab's pair."""
    return "lab" + hashlib.sha256(name.encode()).hexdigest()[:8]


def has_route(namespace: str) -> bool:
    """True when a namespace has its default route, which is set last."""
    return bool(process.run(["ip", "-n", namespace, "route", "show", "default"], check=False).stdout.strip())


def connect(name: str, namespace: str, sources: Sequence[IPv4Network]) -> None:
    """Connect a lab's namespace to the host by a link-local pair, with NAT and a filter on both sides; idempotent."""
    allowed = ", ".join(str(source) for source in sources)
    inner = (
        f"table ip labctl\ndelete table ip labctl\ntable ip labctl {{\n"
        f' chain post {{\n  type nat hook postrouting priority 100;\n  oifname "uplink" masquerade\n }}\n'
        f" chain forward {{\n  type filter hook forward priority 0;\n"
        f'  oifname "uplink" ip saddr != {{ {allowed} }} drop\n }}\n}}\n'
    )
    with lock.exclusive(BEFORE.with_suffix(".lock"), "changes the host's forwarding"):
        host, guest = _addresses(name)
        process.run(["nft", "-f", "-"], stdin=_rules(device(name), guest))
        process.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], stdin=inner)
        if not has_route(namespace):
            _pair(device(name), namespace, host, guest)
        _forward()


def _addresses(name: str) -> tuple[str, str]:
    """The host's and the lab's address of a pair: those it has, else the first free ones from the name's own on."""
    found = json.loads(process.output(["ip", "-4", "-j", "address", "show"]) or "[]")
    taken = {each["local"]: card["ifname"] for card in found for each in card.get("addr_info", ())}
    first = int(hashlib.sha256(name.encode()).hexdigest()[:4], 16)
    every = [_link_local(number % _PAIRS) for number in range(first, first + _PAIRS)]
    mine = (pair for pair in every if taken.get(pair[0]) == device(name))
    return next(mine, None) or next(pair for pair in every if pair[0] not in taken)


def _link_local(number: int) -> tuple[str, str]:
    third, fourth = divmod(number * 4, 256)
    return f"169.254.{third + 2}.{fourth + 1}", f"169.254.{third + 2}.{fourth + 2}"


def _pair(card: str, namespace: str, host: str, guest: str) -> None:
    process.run(["ip", "link", "delete", card], check=False)
    process.run(["ip", "link", "add", card, "type", "veth", "peer", "name", "uplink", "netns", namespace])
    process.run(["ip", "address", "add", f"{host}/30", "dev", card])
    process.run(["ip", "link", "set", card, "up"])
    lines = (f"address add {guest}/30 dev uplink", "link set uplink up", f"route add default via {host}")
    process.run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n", timeout=30)


def _rules(card: str, guest: str) -> str:
    """The host's rules for a pair; what belongs to a connection that a node began comes back."""
    table = f"labctl_{card}"
    reach = ", ".join(_reach())
    refuse = f"ip daddr {{ {', '.join(_PRIVATE)} }} reject with icmp type admin-prohibited"
    return (
        f"table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n"
        f' chain post {{\n  type nat hook postrouting priority 100;\n  iifname "{card}" masquerade\n }}\n'
        f" chain input {{\n  type filter hook input priority -10;\n"
        f'  iifname "{card}" meta nfproto ipv4 reject with icmp type admin-prohibited\n  iifname "{card}" drop\n }}\n'
        f" chain forward {{\n  type filter hook forward priority -10;\n"
        f'  oifname "{card}" ct state established,related accept\n  oifname "{card}" drop\n'
        f'  iifname "{card}" ip saddr != {guest} drop\n  iifname "{card}" meta nfproto ipv6 drop\n'
        + (f'  iifname "{card}" ip daddr {{ {reach} }} accept\n' if reach else "")
        + f'  iifname "{card}" {refuse}\n }}\n}}\n'
    )


def _reach() -> list[str]:
    """The private ranges that the host's user lets nodes reach.

    :raises LabError: one is no address and no network.
    """
    words = os.environ.get(REACH, "").replace(",", " ").split()
    try:
        return [str(IPv4Network(word)) for word in words]
    except ValueError as error:
        raise LabError(f"{REACH}: {error}", f"{REACH}=192.168.1.5,192.168.2.0/24") from error


def _forward() -> None:
    """Let the host forward packets; what it did before is recorded."""
    if (before := FORWARD.read_text()).strip() == "0":
        files.write_atomic(BEFORE, before)
        _set("1")


def _set(value: str) -> None:
    process.run(["sysctl", "-q", "-w", f"net.ipv4.ip_forward={value}"])


def remove(name: str) -> None:
    """Remove a lab's pair and rules; without any other pair, the host forwards packets as before."""
    if shutil.which("nft"):
        for family in ("inet", "ip"):  # an older labctl made the second
            process.run(["nft", "delete", "table", family, f"labctl_{device(name)}"], check=False)
    if device(name) not in _pairs() and not BEFORE.exists():
        return
    with lock.exclusive(BEFORE.with_suffix(".lock"), "changes the host's forwarding"):
        process.run(["ip", "link", "delete", device(name)], check=False)
        if BEFORE.exists() and not _pairs():
            _set(BEFORE.read_text().strip())
            files.remove(BEFORE, within=BEFORE.parent)


def _pairs() -> list[str]:
    cards = json.loads(process.output(["ip", "-j", "link", "show", "type", "veth"]) or "[]")
    return [card["ifname"] for card in cards if _DEVICE.fullmatch(card.get("ifname", ""))]
