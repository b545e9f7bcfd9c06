"""Which ML2 mechanism driver a lab has: what its release, base and topology allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labctl import bases
from labctl.components import Component
from labctl.releases.model import Release
from labctl.topology.defaults import role_of
from labctl.topology.model import Mechanism, NetworkRole, Topology

#: Agents whose work OVN does itself.
REPLACED = {
    Component.NEUTRON_DHCP: "answers DHCP itself",
    Component.NEUTRON_METADATA: "has a metadata agent of its own on each compute node",
}


#: Bytes around a guest's IP packet in a tunnel over IPv4: VXLAN's 8 or Geneve's 16 with OVN's option, and 42 of
#: the outer headers and the inner Ethernet header (neutron: MTU considerations; plugins/ml2/drivers/type_tunnel.py).
OVERHEAD = {Mechanism.LINUXBRIDGE: 50, Mechanism.OPENVSWITCH: 50, Mechanism.OVN: 58}


def possible(release: Release, base: str) -> tuple[Mechanism, ...]:
    """The mechanism drivers that a release has on a base, the documented one first."""
    known = bases.get(base, release.bases[base]).l2_packages
    return tuple(Mechanism(name) for name in release.mechanisms if name in known)


def fitting(can: Sequence[Mechanism], runs: Iterable[Component]) -> tuple[Mechanism, ...]:
    """Those that fit what nodes run: OVN, which has no use for some agents, only where it is the only one."""
    placed = any(component in REPLACED for component in runs)
    return tuple(m for m in can if not placed or m is not Mechanism.OVN) or tuple(can)


def choose(topology: Topology, release: Release, base: str, kernel: bool, vlan: bool = True) -> Mechanism:
    """The topology's mechanism driver; for ``auto`` the documented one that fits its nodes.

    A topology that places DHCP or metadata agents is not one for OVN, which has no use for them. One without a card
    for what Open vSwitch's own datapath carries gets linuxbridge, if the release has it.

    :param kernel: the nodes' kernel has Open vSwitch's datapath.
    :param vlan: the nodes' kernel has devices for VLANs: linuxbridge has no other.
    """
    if topology.options.mechanism is not Mechanism.AUTO:
        return topology.options.mechanism
    can = fitting(possible(release, base), (c for node in topology.nodes.values() for c in node.runs))
    if not vlan and has_tags(topology):
        can = tuple(m for m in can if m is not Mechanism.LINUXBRIDGE) or can
    fits = kernel or not uncarried(topology, release, base)
    return can[0] if fits or Mechanism.LINUXBRIDGE not in can else Mechanism.LINUXBRIDGE


def has_tags(topology: Topology) -> bool:
    """True if frames of some network have VLAN tags."""
    return any(network.vlan is not None or network.vlans for network in topology.networks.values())


def tunnels(release: Release, base: str) -> bool:
    """True if Open vSwitch's own datapath can tunnel on a base."""
    return bases.get(base, release.bases[base]).userspace_tunnels


def carrier(release: Release, base: str) -> NetworkRole:
    """The network that carries projects' networks in Open vSwitch's own datapath: in tunnels, or else as VLANs."""
    return NetworkRole.OVERLAY if tunnels(release, base) else NetworkRole.PROVIDER


def uncarried(topology: Topology, release: Release, base: str) -> list[str]:
    """The nodes with ports whose projects' networks Open vSwitch's own datapath could not carry to the others."""
    ends = layer2_nodes(topology)
    network = network_of(topology, carrier(release, base))
    return [name for name in ends if network not in topology.nodes[name].networks] if len(ends) > 1 else []


def layer2_nodes(topology: Topology) -> list[str]:
    """The nodes that guests and routers are on."""
    return [name for name, node in topology.nodes.items() if Component.NEUTRON_L2 in node.runs]


def network_of(topology: Topology, role: NetworkRole) -> str | None:
    """The network with a role, if there is one."""
    return next((name for name, network in topology.networks.items() if role_of(name, network) is role), None)
