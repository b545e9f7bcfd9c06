"""Rules about IPv6 prefixes, of provider networks and of the fixtures' self-service network."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from labctl.topology.model import Topology
from labctl.topology.problems import Path, Positions, Problem

#: Hosts make their addresses from 64 bits of their own (RFC 4291, 2.5.1; RFC 4862).
_PREFIX = 64
_EXAMPLE = "2001:db8:0:1::/64"
_NOT_FOR_MACHINES = {
    IPv6Network("::/8"): "addresses of no network",
    IPv6Network("fe80::/10"): "link-local addresses",
    IPv6Network("ff00::/8"): "multicast addresses",
}


def _prefixes(topology: Topology) -> Iterator[tuple[Path, IPv6Network]]:
    for name, network in topology.networks.items():
        if network.ipv6 is not None:
            yield ("networks", name, "ipv6"), network.ipv6
    if topology.fixtures.internal_ipv6 is not None:
        yield ("fixtures", "internal_ipv6"), topology.fixtures.internal_ipv6


def prefixes_are_for_machines(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A prefix leaves hosts 64 bits, and has addresses that machines can have."""
    for path, prefix in _prefixes(topology):
        if prefix.prefixlen != _PREFIX:
            yield at.problem(path, f"{prefix} is not a /64, from which hosts make addresses; write one like {_EXAMPLE}")
        elif why := next((kind for other, kind in _NOT_FOR_MACHINES.items() if prefix.overlaps(other)), ""):
            yield at.problem(path, f"{prefix} has {why}; write a prefix like {_EXAMPLE}")


def prefixes_do_not_overlap(topology: Topology, at: Positions) -> Iterator[Problem]:
    """No IPv6 address belongs to two networks."""
    seen: list[tuple[Path, IPv6Network]] = []
    for path, prefix in _prefixes(topology):
        for other, taken in seen:
            if prefix.overlaps(taken):
                yield at.problem(path, f"{prefix} overlaps {taken} of {'.'.join(map(str, other))}; choose another")
                break
        seen.append((path, prefix))


def gateways_lie_in_their_prefix(topology: Topology, at: Positions) -> Iterator[Problem]:
    """An IPv6 gateway is an address of its network's prefix."""
    for name, network in topology.networks.items():
        gateway, prefix = network.ipv6_gateway, network.ipv6
        if gateway is None:
            continue
        path = ("networks", name, "ipv6_gateway")
        if prefix is None:
            yield at.problem(path, f"has no effect without an IPv6 prefix; add ipv6: {_EXAMPLE}")
        elif gateway not in prefix or gateway == prefix.network_address:
            yield at.problem(
                path, f"{gateway} is no host of {prefix}; use an address like {prefix.network_address + 1}"
            )


def guests_with_ipv6_have_a_network(topology: Topology, at: Positions) -> Iterator[Problem]:
    """What is said of the self-service network needs one."""
    wanted = topology.fixtures
    if wanted.internal_network is not None:
        return
    for field in ("internal_ipv6", "internal_mtu"):
        if getattr(wanted, field) is not None:
            yield at.problem(
                ("fixtures", field), "has no effect without a self-service network; add internal_network: NAME"
            )


RULES = (
    prefixes_are_for_machines,
    prefixes_do_not_overlap,
    gateways_lie_in_their_prefix,
    guests_with_ipv6_have_a_network,
)
