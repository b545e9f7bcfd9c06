"""Rules about neutron's mechanism driver: what a release and a base have, and what it needs of the topology."""

from __future__ import annotations

from collections.abc import Iterator

from labctl import bases
from labctl.drivers import DRIVERS
from labctl.releases import RELEASES
from labctl.topology import mechanism
from labctl.topology.defaults import mtu_of
from labctl.topology.model import SMALLEST_MTU, Mechanism, NetworkRole, Topology
from labctl.topology.problems import Positions, Problem


def _bases(topology: Topology) -> list[str]:
    """The bases of the topology that have its release."""
    release = RELEASES.get(topology.release)
    return [base for base in topology.bases if release and base in bases.of(release)]


def mechanisms_exist_in_the_release(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The mechanism driver is one that the release has on each base."""
    wanted = topology.options.mechanism
    if wanted is Mechanism.AUTO:
        return
    for base in _bases(topology):
        can = mechanism.possible(RELEASES[topology.release], base)
        if wanted not in can:
            yield at.problem(
                ("options", "mechanism"),
                f"{topology.release} on {base} has no {wanted}; possible: {', '.join(can)}, auto",
            )
            return


def ovn_has_no_agents(topology: Topology, at: Positions) -> Iterator[Problem]:
    """OVN does the work of the DHCP and metadata agents."""
    if topology.options.mechanism is not Mechanism.OVN:
        return
    for name, node in topology.nodes.items():
        for i, component in enumerate(node.runs):
            if why := mechanism.REPLACED.get(component):
                yield at.problem(("nodes", name, "runs", i), f"OVN {why}; remove {component} from runs")


def networks_of_containers_have_cards(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Open vSwitch's own datapath carries projects' networks over a card of its own: of the overlay or the provider.

    Its tunnels take their card, so that cannot be the one of the APIs; without tunnels, networks are VLANs of the
    provider network.
    """
    contained = [d for d in topology.drivers if d in DRIVERS and not DRIVERS[d].own_kernel]
    if not contained:
        return
    for base in _bases(topology):
        release = RELEASES[topology.release]
        chosen = mechanism.choose(topology, release, base, kernel=False)
        without = mechanism.uncarried(topology, release, base)
        if chosen is Mechanism.LINUXBRIDGE or not without:
            continue
        role = mechanism.carrier(release, base)
        network = mechanism.network_of(topology, role)
        if network is None:
            yield at.problem(
                ("networks",),
                f"{chosen} in containers ({', '.join(contained)}) needs a network named {role} between the nodes that "
                f"run neutron-l2: {', '.join(without)}",
            )
        elif role is NetworkRole.PROVIDER:  # that tunnel ends have an overlay address is a rule of every lab
            for name in without:
                yield at.problem(
                    ("nodes", name, "networks"),
                    f"{chosen} in containers carries networks over '{network}'; attach the node with {network}: none",
                )
        return


def tunnels_carry_the_packets(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The self-service network's packets fit into its tunnels, also the smallest that IPv6 allows."""
    fixtures = topology.fixtures
    role = NetworkRole.OVERLAY if mechanism.network_of(topology, NetworkRole.OVERLAY) else NetworkRole.MANAGEMENT
    under = mechanism.network_of(topology, role)
    if under is None or fixtures.internal_network is None:
        return
    for base in _bases(topology):
        chosen = mechanism.choose(topology, RELEASES[topology.release], base, kernel=True)
        outer, around = mtu_of(under, topology.networks), mechanism.OVERHEAD[chosen]
        most = outer - around
        if fixtures.internal_mtu is not None and fixtures.internal_mtu > most:
            yield at.problem(
                ("fixtures", "internal_mtu"),
                f"tunnels of {chosen} carry at most {most} bytes: '{under}' carries {outer}, and each packet gets "
                f"{around} around it; set mtu: {fixtures.internal_mtu + around} on '{under}'",
            )
        elif fixtures.internal_ipv6 is not None and most < SMALLEST_MTU:
            yield at.problem(
                ("fixtures", "internal_ipv6"),
                f"IPv6 needs packets of {SMALLEST_MTU} bytes, and tunnels of {chosen} carry at most {most}; "
                f"set mtu: {SMALLEST_MTU + around} or more on '{under}'",
            )
        return


RULES = (
    mechanisms_exist_in_the_release,
    ovn_has_no_agents,
    networks_of_containers_have_cards,
    tunnels_carry_the_packets,
)
