"""Resolve a topology and the choices of one ``up`` into a lab spec: every default filled, nothing random."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from itertools import count

from labctl.errors import LabError
from labctl.topology import proxy as proxies
from labctl.topology.defaults import gateway_of, ipv6_gateway_of, mtu_of, physical_of, pool_of, role_of, wire_of
from labctl.topology.model import NAME, Join, Mechanism, Network, NetworkRole, Node, Topology, VirtType, VolumeBackend
from labctl.topology.spec import CardSpec, DiskSpec, InterfaceSpec, LabSpec, NetworkSpec, NodeSpec

_MAX_NAME = 40


def lab_name(topology: Topology, name: str | None) -> str:
    """The name of a topology's lab: the wanted one, else the topology's.

    :raises LabError: it is invalid.
    """
    lab = topology.name if name is None else name
    if not re.fullmatch(NAME, lab) or len(lab) > _MAX_NAME:
        raise LabError(
            f"{lab!r} is not a lab name",
            f"use up to {_MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter",
        )
    return lab


def resolve(
    topology: Topology,
    *,
    name: str | None = None,
    base: str,
    driver: str,
    cloud: str = "",
    largest_mtu: int = 0,
    mechanism: Mechanism,
    userspace_datapath: bool = False,
    virt_type: VirtType,
    volume_backend: VolumeBackend = VolumeBackend.NFS,
    own_kernel: bool = False,
    patience: float = 1.0,
    package_source: str,
    proxy: str = "",
) -> LabSpec:
    """Return the spec of one lab of a checked topology. The same arguments give the same spec, MACs included.

    The caller chooses base, driver, mechanism and the like (``labctl.lab.choose``).

    :param name: the lab's name; default: the topology's.
    :param largest_mtu: bytes of the largest packet that the networks can carry; 0: what the topology says.
    :param proxy: of package downloads, where the topology names none.
    :raises LabError: when the name is invalid.
    :raises ValueError: when the mechanism is AUTO.
    """
    if mechanism is Mechanism.AUTO:
        raise ValueError("choose a mechanism before resolving a topology")
    lab = lab_name(topology, name)
    macs = Macs(lab)
    through, password = proxies.split(topology.options.proxy or proxy)
    nodes = {key: _node(key, node, macs) for key, node in topology.nodes.items()}
    return LabSpec(
        name=lab,
        topology=topology.name,
        release=topology.release,
        base=base,
        package_source=package_source,
        driver=driver,
        cloud=cloud,
        anti_affinity=topology.options.anti_affinity,
        region=topology.options.region,
        workers=topology.options.workers,
        threads=topology.options.threads,
        telemetry_interval=topology.options.telemetry_interval,
        mechanism=mechanism,
        userspace_datapath=userspace_datapath,
        virt_type=virt_type,
        volume_backend=volume_backend,
        own_kernel=own_kernel,
        patience=patience,
        vault=topology.options.vault,
        proxy=through,
        networks={key: _network(key, topology.networks, largest_mtu) for key in topology.networks},
        nodes={key: node for key, node in nodes.items() if node.join is Join.START},
        later={key: node for key, node in nodes.items() if node.join is Join.LATER},
        passwords={**topology.passwords, **({proxies.SECRET: password} if password else {})},
        fixtures=topology.fixtures,
        snapshots=topology.snapshots,
    )


def _network(name: str, networks: Mapping[str, Network], largest_mtu: int = 0) -> NetworkSpec:
    mtu = mtu_of(name, networks)
    network, wire = networks[name], wire_of(name, networks)
    role = role_of(name, network)
    if role is None:
        raise LabError(f"network {name} has no role", "load the topology from its file, which validates it")
    return NetworkSpec(
        name=name,
        role=role,
        cidr=network.cidr,
        gateway=gateway_of(network),
        nat=network.nat,
        physical=physical_of(network),
        pool=pool_of(network) if role is NetworkRole.PROVIDER else None,
        dns=network.dns,
        mtu=min(mtu, largest_mtu) if largest_mtu else mtu,
        wire=wire if wire != name else "",
        vlan=network.vlan,
        vlans=network.vlans,
        ipv6=network.ipv6,
        ipv6_gateway=ipv6_gateway_of(network),
    )


def _node(name: str, node: Node, macs: Macs) -> NodeSpec:
    return NodeSpec(
        name=name,
        cpus=node.cpus,
        memory=node.memory,
        disk=node.disk,
        disks=tuple(DiskSpec(name=key, size=disk.size) for key, disk in node.disks.items()),
        interfaces=tuple(_interfaces(name, node, macs)),
        runs=node.runs,
        join=node.join,
    )


def _interfaces(name: str, node: Node, macs: Macs) -> Iterator[InterfaceSpec]:
    """The node's cards in the order of its networks, as its kernel counts them; a bond takes two."""
    cards, bonds = count(), count()
    for network, address in node.networks.items():
        members = tuple(f"eth{next(cards)}" for _ in range(2 if network in node.bonds else 1))
        made = InterfaceSpec(
            name=f"bond{next(bonds)}" if len(members) > 1 else members[0],
            network=network,
            address=address,
            mac=_NO_MAC,
            members=tuple(CardSpec(name=each, mac=_NO_MAC) for each in members) if len(members) > 1 else (),
        )
        yield macs.given(name, made)


def with_overlay(lab: LabSpec, nodes: Iterable[str]) -> LabSpec:
    """A lab with one more network, for tunnels, and a card in it for each of these nodes.

    Its range is the first 10.0.N.0/24 that the lab has not, its addresses end as those of the management network where
    that tells the nodes apart.

    :raises LabError: there is no range left.
    """
    taken = [network.cidr for network in lab.networks.values()]
    taken += [lab.fixtures.internal_cidr] if lab.fixtures.internal_cidr else []
    ranges = (IPv4Network(f"10.0.{number}.0/24") for number in range(1, 256))
    cidr = next((each for each in ranges if not any(each.overlaps(other) for other in taken)), None)
    if cidr is None:
        raise LabError(f"{lab.name} has no range of addresses left for a network of tunnels")
    name = NetworkRole.OVERLAY.value
    network = _network(name, {name: Network(cidr=cidr, role=NetworkRole.OVERLAY)})
    every = (*lab.nodes.values(), *lab.later.values())
    macs = Macs(lab.name, (card.mac for node in every for each in node.interfaces for card in each.cards))

    ends = [node.name for node in every if node.name in set(nodes)]
    numbers = {node.name: int(lab.address(node)) % 256 for node in every if node.name in ends}
    if len(set(numbers.values())) < len(ends) or not set(numbers.values()) <= set(range(2, 255)):
        numbers = {name: number for number, name in enumerate(ends, start=11)}

    def plugged(node: NodeSpec) -> NodeSpec:
        if node.name not in numbers:
            return node
        card = InterfaceSpec(
            name=f"eth{sum(len(each.cards) for each in node.interfaces)}",
            network=name,
            address=cidr.network_address + numbers[node.name],
            mac=_NO_MAC,
        )
        return node.model_copy(update={"interfaces": (*node.interfaces, macs.given(node.name, card))})

    return lab.model_copy(
        update={
            "networks": {**lab.networks, name: network},
            "nodes": {key: plugged(node) for key, node in lab.nodes.items()},
            "later": {key: plugged(node) for key, node in lab.later.items()},
        }
    )


_NO_MAC = "00:00:00:00:00:00"


class Macs:
    """MAC addresses of one lab with QEMU's prefix 52:54:00: the same in every run, each used once."""

    def __init__(self, name: str, given: Iterable[str] = ()) -> None:
        self._lab = name
        self._given = set(given)

    def given(self, node: str, card: InterfaceSpec) -> InterfaceSpec:
        """A card with the addresses of a node; a bond has that of its first member."""
        if not card.members:
            return card.model_copy(update={"mac": self.of(node, card.network)})
        members = tuple(
            each.model_copy(update={"mac": self.of(node, f"{card.network}/{each.name}")}) for each in card.members
        )
        return card.model_copy(update={"members": members, "mac": members[0].mac})

    def of(self, node: str, network: str) -> str:
        """The MAC address of a node's interface in a network."""
        attempt = 0
        while True:
            key = f"{self._lab}/{node}/{network}" + (f"#{attempt}" if attempt else "")
            tail = hashlib.sha256(key.encode()).hexdigest()[:6]
            mac = f"52:54:00:{tail[:2]}:{tail[2:4]}:{tail[4:]}"
            if mac not in self._given:
                self._given.add(mac)
                return mac
            attempt += 1
