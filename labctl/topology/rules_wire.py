"""Rules about the cards that provider networks share: their VLAN tags, and the packets that pass."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.drivers import DRIVERS
from labctl.topology.defaults import mtu_of, physical_of, role_of, wire_of
from labctl.topology.model import NetworkRole, Topology, VlanRange
from labctl.topology.problems import Positions, Problem


def _providers(topology: Topology) -> Iterator[tuple[str, str]]:
    """The provider networks, each with the network whose cards it uses."""
    for name, network in topology.networks.items():
        if role_of(name, network) is NetworkRole.PROVIDER:
            yield name, wire_of(name, topology.networks)


def networks_of_a_wire_differ_by_their_tags(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Of the networks on the same cards one at most has no tag, and no two have the same."""
    first: dict[tuple[str, int | None], str] = {}
    for name, wire in _providers(topology):
        network = topology.networks[name]
        other = first.setdefault((wire, network.vlan), name)
        if other == name:
            continue
        if network.vlan is None:
            yield at.problem(
                ("networks", name),
                f"uses the cards of '{other}' (physical: {physical_of(network)}), and neither has a VLAN tag; add "
                f"vlan: 100 to share them, or physical: {name} for cards of its own",
            )
        else:
            yield at.problem(
                ("networks", name, "vlan"), f"{network.vlan} is already the tag of '{other}' on the same cards"
            )


def vlan_ranges_do_not_overlap(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Neutron allocates a VLAN ID of some cards from one range."""
    taken: dict[str, list[tuple[VlanRange, str]]] = {}
    for name, wire in _providers(topology):
        for each in topology.networks[name].vlans:
            ranges = taken.setdefault(wire, [])
            for other, whose in ranges:
                if each.first <= other.last and other.first <= each.last:
                    yield at.problem(
                        ("networks", name, "vlans"),
                        f"{each} overlaps {other}" + (f" of '{whose}'" if whose != name else ""),
                    )
                    break
            ranges.append((each, name))


def nodes_have_one_card_for_a_wire(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A network that uses the cards of another has none of its own."""
    shared = {name: wire for name, wire in _providers(topology) if wire != name}
    for name, node in topology.nodes.items():
        for network in (network for network in node.networks if network in shared):
            wire = shared[network]
            yield at.problem(
                ("nodes", name, "networks", network),
                f"'{network}' has no cards of its own, it uses those of '{wire}'; write {wire}: none",
                key=True,
            )


def packets_pass_the_wire(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A network's packets are no larger than those of the network whose cards it uses."""
    for name, wire in _providers(topology):
        own, most = mtu_of(name, topology.networks), mtu_of(wire, topology.networks)
        if own > most:
            yield at.problem(
                ("networks", name, "mtu"),
                f"its packets pass the cards of '{wire}', which carry {most} bytes; use at most {most}",
            )


def bonds_are_made_in_machines(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A bond is of a network that the node is attached to, once, and made by a driver that can."""
    for name, node in topology.nodes.items():
        for i, network in enumerate(node.bonds):
            path = ("nodes", name, "bonds", i)
            if network not in node.networks:
                yield at.problem(path, f"'{name}' is not attached to a network '{network}'; add it to its networks")
            elif network in node.bonds[:i]:
                yield at.problem(path, f"'{network}' is named twice")
        unable = [driver for driver in topology.drivers if driver in DRIVERS and not DRIVERS[driver].bonds]
        if node.bonds and unable:
            able = ", ".join(driver for driver, entry in DRIVERS.items() if entry.bonds)
            yield at.problem(
                ("nodes", name, "bonds"),
                f"{', '.join(unable)} cannot bond cards; possible drivers: {able}",
            )


RULES = (
    networks_of_a_wire_differ_by_their_tags,
    vlan_ranges_do_not_overlap,
    nodes_have_one_card_for_a_wire,
    packets_pass_the_wire,
    bonds_are_made_in_machines,
)
