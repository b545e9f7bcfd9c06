"""Rules about networks and the addresses of nodes in them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from labctl.components import Component
from labctl.drivers import DRIVERS
from labctl.topology.defaults import gateway_of, role_of, wire_of
from labctl.topology.model import NetworkRole, Topology
from labctl.topology.problems import Positions, Problem, unknown

# A gateway, a node and two special addresses.
_LONGEST_PREFIX = 30
_NOT_FOR_MACHINES = {
    IPv4Network("0.0.0.0/8"): "addresses of no network",
    IPv4Network("127.0.0.0/8"): "every machine's own addresses",
    IPv4Network("169.254.0.0/16"): "link-local addresses",
    IPv4Network("224.0.0.0/4"): "multicast addresses",
    IPv4Network("240.0.0.0/4"): "reserved addresses",
}


#: Settings of provider networks.
_PROVIDER_ONLY = ("pool", "dns", "physical", "vlan", "vlans", "ipv6", "ipv6_gateway")


def _of_role(topology: Topology, role: NetworkRole) -> list[str]:
    return [name for name, network in topology.networks.items() if role_of(name, network) is role]


def every_network_has_a_role(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Every network has a role, given by ``role`` or by its name."""
    for name, network in topology.networks.items():
        if role_of(name, network) is None:
            roles = ", ".join(NetworkRole)
            yield at.problem(
                ("networks", name),
                f"has no role; add role: (one of {roles}) or name the network after its role",
            )


def one_network_a_role(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Exactly one management network, at most one overlay network; provider networks may be several."""
    for role in NetworkRole:
        first, *more = _of_role(topology, role) or [""]
        for name in more if role is not NetworkRole.PROVIDER else ():
            yield at.problem(("networks", name), f"is a second {role} network besides '{first}'; a lab has only one")
        if not first and role is NetworkRole.MANAGEMENT:
            yield at.problem(
                ("networks",),
                "there is no management network to reach the nodes and APIs; add one",
            )


def networks_hold_hosts(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A network has room for its gateway and a node."""
    for name, network in topology.networks.items():
        if network.cidr.prefixlen > _LONGEST_PREFIX:
            yield at.problem(
                ("networks", name, "cidr"),
                f"{network.cidr} has no room for a gateway and a node; write a network like 10.0.0.0/24",
            )


def networks_do_not_overlap(topology: Topology, at: Positions) -> Iterator[Problem]:
    """No address belongs to two networks. Of two networks that overlap, one holds the other."""
    order = {name: number for number, name in enumerate(topology.networks)}
    cidrs = {name: network.cidr for name, network in topology.networks.items()}
    around: list[str] = []
    for name in sorted(cidrs, key=lambda name: (cidrs[name].network_address, cidrs[name].prefixlen)):
        while around and cidrs[around[-1]].broadcast_address < cidrs[name].network_address:
            around.pop()
        if around:
            one, other = sorted((around[0], name), key=lambda name: order[name])
            yield at.problem(
                ("networks", other, "cidr"),
                f"{cidrs[other]} overlaps network '{one}' ({cidrs[one]}); choose another",
            )
        around.append(name)


def why_not_for_machines(cidr: IPv4Network) -> str:
    """Which addresses of a network no machine can have, or an empty string."""
    return next((f"{kind} ({other})" for other, kind in _NOT_FOR_MACHINES.items() if cidr.overlaps(other)), "")


def networks_are_for_machines(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Machines can have the addresses of a network, and a name server has its own."""
    for name, network in topology.networks.items():
        if why := why_not_for_machines(network.cidr):
            yield at.problem(("networks", name, "cidr"), f"{network.cidr} has {why}; write a network like 10.0.0.0/24")
        if network.dns is not None and (why := why_not_for_machines(IPv4Network(network.dns))):
            yield at.problem(("networks", name, "dns"), f"{network.dns} is no name server's address: {why}")


def guests_have_a_network_of_their_own(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The guests' router has their network on one side and the lab's on the other."""
    cidr, path = topology.fixtures.internal_cidr, ("fixtures", "internal_cidr")
    if topology.fixtures.internal_network is None:
        return
    if why := why_not_for_machines(cidr):
        yield at.problem(path, f"{cidr} has {why}; write a network like 172.16.1.0/24")
    if cidr.prefixlen > _LONGEST_PREFIX:
        yield at.problem(path, f"{cidr} has no room for a gateway and a guest; write a network like 172.16.1.0/24")
    for name, network in topology.networks.items():
        if network.cidr.overlaps(cidr):
            yield at.problem(path, f"{cidr} overlaps network '{name}' ({network.cidr}); choose another")
            return


def networks_do_not_overlap_the_drivers(topology: Topology, at: Positions) -> Iterator[Problem]:
    """No address of the lab belongs to the card by which a driver's provider reaches a machine."""
    for name, network in topology.networks.items():
        for driver in (d for d in topology.drivers if d in DRIVERS):
            for taken, whose in DRIVERS[driver].taken.items():
                if network.cidr.overlaps(taken):
                    yield at.problem(
                        ("networks", name, "cidr"),
                        f"{network.cidr} overlaps {taken}, {whose}; choose another, or remove {driver} from drivers",
                    )


def not_a_host(address: IPv4Address, cidr: IPv4Network) -> str:
    """Why a host of a network cannot have that address, or an empty string."""
    if address not in cidr:
        return f"is outside {cidr}"
    if address == cidr.network_address:
        return f"is the network address of {cidr}"
    if address == cidr.broadcast_address:
        return f"is the broadcast address of {cidr}"
    return ""


def gateways_are_hosts(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A given gateway is a host address of its network."""
    for name, network in topology.networks.items():
        why = not_a_host(network.gateway, network.cidr) if network.gateway is not None else ""
        if why:
            yield at.problem(
                ("networks", name, "gateway"),
                f"{network.gateway} {why}; use a host address of the network",
            )


def pools_lie_in_their_network(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A pool is a range of host addresses of its network, without the gateway."""
    for name, network in topology.networks.items():
        pool = network.pool
        if pool is None:
            continue
        path = ("networks", name, "pool")
        if pool.start > pool.end:
            yield at.problem(path, f"is reversed; did you mean {pool.end}-{pool.start}?")
            continue
        for address in dict.fromkeys((pool.start, pool.end)):
            why = not_a_host(address, network.cidr)
            if why:
                yield at.problem(path, f"{address} {why}; use host addresses of the network")
        gateway = gateway_of(network)
        if pool.start <= gateway <= pool.end:
            yield at.problem(path, f"contains the gateway {gateway}; neutron would allocate it")


def provider_settings_are_on_the_provider_network(topology: Topology, at: Positions) -> Iterator[Problem]:
    """What neutron is told of provider networks; elsewhere it would be silently ignored."""
    for name, network in topology.networks.items():
        role = role_of(name, network)
        if role in (None, NetworkRole.PROVIDER):
            continue
        for field in _PROVIDER_ONLY:
            if getattr(network, field):
                yield at.problem(
                    ("networks", name, field),
                    f"has no effect in the {role} network; set it on the provider network",
                )


def nodes_attach_to_known_networks(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The networks of a node are networks of the lab."""
    for node_name, node in topology.nodes.items():
        for network in node.networks:
            if network not in topology.networks:
                message = unknown("network", network, topology.networks)
                yield at.problem(("nodes", node_name, "networks", network), message, key=True)


def addresses_are_free_hosts(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node's address is a host address of the network, not the gateway's, and no other node's."""
    taken: dict[tuple[str, IPv4Address], str] = {}
    for node_name, node in topology.nodes.items():
        for network_name, address in node.networks.items():
            network = topology.networks.get(network_name)
            if network is None or address is None:
                continue
            path = ("nodes", node_name, "networks", network_name)
            why = not_a_host(address, network.cidr)
            other = taken.setdefault((network_name, address), node_name)
            if why:
                yield at.problem(path, f"{address} {why}; use a host address")
            elif address == gateway_of(network):
                yield at.problem(path, f"{address} is the gateway of '{network_name}'; choose another")
            elif other != node_name:
                yield at.problem(path, f"{address} is already the address of node '{other}'")


def nodes_have_a_management_address(topology: Topology, at: Positions) -> Iterator[Problem]:
    """labctl and the APIs reach every node over the management network."""
    for management in _of_role(topology, NetworkRole.MANAGEMENT)[:1]:
        for name, node in topology.nodes.items():
            if node.networks.get(management) is None:
                yield at.problem(
                    ("nodes", name, "networks", management),
                    f"node '{name}' needs an address in the management network '{management}'",
                )


def tunnel_ends_have_an_overlay_address(topology: Topology, at: Positions) -> Iterator[Problem]:
    """If the lab has an overlay network, every layer-2 agent has its tunnel endpoint there."""
    for overlay in _of_role(topology, NetworkRole.OVERLAY)[:1]:
        for name, node in topology.nodes.items():
            if Component.NEUTRON_L2 in node.runs and node.networks.get(overlay) is None:
                yield at.problem(
                    ("nodes", name, "networks", overlay),
                    f"node '{name}' runs neutron-l2 and needs an address in the overlay network '{overlay}'",
                )


def provider_networks_are_attached_without_address(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Neutron bridges the node's interface into the provider network, so the interface itself has no address."""
    for provider in _of_role(topology, NetworkRole.PROVIDER):
        for name, node in topology.nodes.items():
            if node.networks.get(provider) is not None:
                yield at.problem(
                    ("nodes", name, "networks", provider),
                    f"neutron bridges this interface, so it has no address; write {provider}: none",
                )


def routers_reach_the_provider_network(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The layer-3 agent plugs routers into the provider networks."""
    providers = [n for n in _of_role(topology, NetworkRole.PROVIDER) if wire_of(n, topology.networks) == n]
    for name, node in topology.nodes.items():
        if Component.NEUTRON_L3 not in node.runs:
            continue
        path = ("nodes", name, "runs", node.runs.index(Component.NEUTRON_L3))
        if not providers:
            yield at.problem(path, "neutron-l3 routes to the provider network, but the lab has none; add one")
        for provider in (name for name in providers if name not in node.networks):
            yield at.problem(path, f"neutron-l3 routes to '{provider}'; attach the node with {provider}: none")


RULES = (
    every_network_has_a_role,
    one_network_a_role,
    networks_hold_hosts,
    networks_do_not_overlap,
    networks_are_for_machines,
    guests_have_a_network_of_their_own,
    networks_do_not_overlap_the_drivers,
    gateways_are_hosts,
    pools_lie_in_their_network,
    provider_settings_are_on_the_provider_network,
    nodes_attach_to_known_networks,
    addresses_are_free_hosts,
    nodes_have_a_management_address,
    tunnel_ends_have_an_overlay_address,
    provider_networks_are_attached_without_address,
    routers_reach_the_provider_network,
)
