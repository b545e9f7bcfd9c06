"""Host name and network interfaces: facts 4.1, troubleshooting 1-5 to 1-8 of the errata.

Interfaces are identified by their MAC addresses: names depend on the hypervisor and the slot.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from labctl.operations.node import Command, File, Item
from labctl.services.base import Context
from labctl.topology.defaults import BOND_MODE, BOND_MONITOR, MTU
from labctl.topology.model import NetworkRole
from labctl.topology.spec import CardSpec, InterfaceSpec, NetworkSpec, NodeSpec

SOURCE = "guide: host networking; facts 4.1; errata 1-5, 1-6, 1-7"
BONDS = "RHEL 7 Networking Guide: using network bonding"
_FILE = "/etc/sysconfig/network-scripts/ifcfg-{}"
RULES = "/etc/udev/rules.d/70-labctl-cards.rules"


def _names(node: NodeSpec) -> str:
    lines = ["# Made by labctl: names of the cards by their MAC addresses"]
    lines += [
        f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{card.mac}", NAME="{card.name}"'
        for interface in node.interfaces
        for card in interface.cards
    ]
    return "\n".join(lines) + "\n"


def ifcfg(card: InterfaceSpec, network: NetworkSpec) -> str:
    """An interface's file; one without an address gets no route either, not even from a router advertisement."""
    lines = ["# Made by labctl"]
    values: dict[str, str | int | IPv4Address] = {
        "TYPE": "Bond" if card.members else "Ethernet",
        "NAME": card.name,
        "DEVICE": card.name,
        "MACADDR" if card.members else "HWADDR": card.mac,
        "ONBOOT": "yes",
        "BOOTPROTO": "none",
        "NM_CONTROLLED": "no",
        "IPV6INIT": "no",
        "DEFROUTE": "no",
    }
    if card.members:
        values |= {"BONDING_MASTER": "yes", "BONDING_OPTS": f"'mode={BOND_MODE} miimon={BOND_MONITOR}'"}
    if network.mtu != MTU:
        values["MTU"] = network.mtu
    if card.address is not None:
        values |= {"IPADDR": card.address, "PREFIX": network.cidr.prefixlen}
        if network.role is NetworkRole.MANAGEMENT:
            values |= {"DEFROUTE": "yes", "GATEWAY": network.gateway}
    lines += [f"{key}={value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def ifcfg_of_member(card: CardSpec, bond: InterfaceSpec) -> str:
    """The file of a bond's member: all that it has is its place in the bond."""
    values = {
        "TYPE": "Ethernet",
        "NAME": card.name,
        "DEVICE": card.name,
        "HWADDR": card.mac,
        "ONBOOT": "yes",
        "BOOTPROTO": "none",
        "NM_CONTROLLED": "no",
        "MASTER": bond.name,
        "SLAVE": "yes",
    }
    return "\n".join(["# Made by labctl", *(f"{key}={value}" for key, value in values.items())]) + "\n"


def _up(card: InterfaceSpec) -> Command:
    return Command(
        f"{card.name} is up without an address",
        f"ip addr flush dev {card.name} && ip link set dev {card.name} up",
        unless=f'[ -z "$(ip -4 -o addr show dev {card.name})" ] && ip -o link show dev {card.name} | grep -q "[<,]UP"',
        source="guide: host networking, provider interface",
    )


def at_boot() -> Command:
    """The service that reads the interfaces' files; on CentOS 8 it is in a separate package."""
    return Command(
        "the cards' files are read at boot",
        "chkconfig network on",
        unless="chkconfig network",
        source="initscripts: the files are network's, not NetworkManager's (NM_CONTROLLED=no)",
    )


def operations(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """The host name, and the interfaces as they are after every boot."""
    made: list[Item] = [
        Command(
            f"host name {node.name}",
            f"hostnamectl set-hostname {node.name}",
            unless=f'[ "$(cat /etc/hostname)" = {node.name} ] && [ "$(hostname)" = {node.name} ]',
            source="guide: host networking; errata 1-8",
        ),
        File(RULES, _names(node), source=SOURCE),
    ]
    for card in node.interfaces:
        made.append(File(_FILE.format(card.name), ifcfg(card, ctx.lab.networks[card.network]), source=SOURCE))
        for each in card.members:
            made.append(File(_FILE.format(each.name), ifcfg_of_member(each, card), source=BONDS))
    made += [_up(card) for card in node.interfaces if card.address is None]
    return tuple(made)
