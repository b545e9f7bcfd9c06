"""Defaults of values a topology leaves out, shared by ``check`` and ``resolve`` so they cannot disagree."""

from __future__ import annotations

from ipaddress import IPv4Address

from labctl.topology.model import AddressPool, Network, NetworkRole


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
