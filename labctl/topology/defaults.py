"""Defaults of values a topology leaves out, shared by ``check`` and ``resolve`` so they cannot disagree."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from labctl.topology.model import AddressPool, Network, NetworkRole

#: Neutron's name of the physical network of a lab's provider networks.
PHYSICAL = "provider"
#: Bytes of the largest IP packet of Ethernet.
MTU = 1500
#: How cards are bonded, and milliseconds between two looks at their carriers.
BOND_MODE, BOND_MONITOR = "active-backup", 100


def role_of(name: str, network: Network) -> NetworkRole | None:
    """Return the role of a network: its ``role``, else its name if that is a role, else None."""
    if network.role is not None:
        return network.role
    return NetworkRole(name) if name in set(NetworkRole) else None


def gateway_of(network: Network) -> IPv4Address:
    """Return the lab namespace's address in a network; default: the first host address."""
    return network.gateway if network.gateway is not None else network.cidr.network_address + 1


def pool_of(network: Network) -> AddressPool:
    """Return neutron's allocation pool; default: the upper half of the host addresses.

    A gateway in the upper half is excluded, with the shorter side of it. The network must have room for two hosts.
    """
    if network.pool is not None:
        return network.pool
    bottom, top = network.cidr.network_address, network.cidr.broadcast_address
    start, end = bottom + network.cidr.num_addresses // 2, top - 1
    gateway = gateway_of(network)
    if start <= gateway <= end:
        below, above = int(gateway) - int(start), int(end) - int(gateway)
        if below == above == 0:
            start, end = bottom + 1, gateway - 1
        elif below >= above:
            end = gateway - 1
        else:
            start = gateway + 1
    return AddressPool(start=start, end=end)


def physical_of(network: Network) -> str:
    """Return neutron's name of a provider network's physical network."""
    return network.physical if network.physical is not None else PHYSICAL


def wire_of(name: str, networks: Mapping[str, Network]) -> str:
    """Return the network whose cards and bridge carry a network's frames: the first with its physical network.

    Networks of other roles have their own.
    """
    if role_of(name, networks[name]) is not NetworkRole.PROVIDER:
        return name
    same = physical_of(networks[name])
    return next(
        other
        for other, network in networks.items()
        if role_of(other, network) is NetworkRole.PROVIDER and physical_of(network) == same
    )


def mtu_of(name: str, networks: Mapping[str, Network]) -> int:
    """Return a network's MTU in bytes; default: that of its wire, else 1500."""
    own, wire = networks[name].mtu, networks[wire_of(name, networks)].mtu
    return own if own is not None else wire if wire is not None else MTU


def ipv6_gateway_of(network: Network) -> IPv6Address | None:
    """Return the lab namespace's IPv6 address in a network; default: the first of its prefix."""
    if network.ipv6 is None:
        return None
    return network.ipv6_gateway if network.ipv6_gateway is not None else network.ipv6.network_address + 1
