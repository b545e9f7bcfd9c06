"""A resolved lab: every default filled, every address and MAC known, release × base × driver chosen.

A lab spec is plain data. It is stored in the lab's state directory, so later commands use what was built and
not a topology file that may have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from labctl.components import Component
from labctl.errors import LabError
from labctl.topology.defaults import MTU
from labctl.topology.model import (
    VAULT,
    AddressPool,
    Fixtures,
    Frozen,
    HostName,
    InterfaceName,
    Join,
    Mac,
    Mechanism,
    Name,
    NetworkRole,
    Vault,
    VirtType,
    VlanRange,
    VolumeBackend,
    Word,
)
from labctl.topology.proxy import RECORDED

#: A cloud's name in clouds.yaml, or ``lab:`` and the name of a lab.
CLOUD = r"^$|^(lab:)?[A-Za-z0-9][A-Za-z0-9_.-]*$"


class NetworkSpec(Frozen):
    """One layer-2 segment; ``gateway`` and ``ipv6_gateway`` are the lab namespace's own addresses in it.

    ``wire`` is the network whose bridge and cards carry its frames, empty for its own; ``mtu`` in bytes.
    """

    name: Name
    role: NetworkRole
    cidr: IPv4Network
    gateway: IPv4Address
    nat: bool
    physical: Word
    pool: AddressPool | None
    dns: IPv4Address | None
    mtu: int = MTU
    wire: Name | Literal[""] = ""
    vlan: int | None = None
    vlans: tuple[VlanRange, ...] = ()
    ipv6: IPv6Network | None = None
    ipv6_gateway: IPv6Address | None = None

    @property
    def carrier(self) -> str:
        """The network whose bridge and cards carry the frames, itself if they are its own."""
        return self.wire or self.name

    @property
    def ipv6_router(self) -> IPv6Address | None:
        """The IPv6 address that the fixtures' router has in this network: the namespace routes by it."""
        if self.ipv6 is None:
            return None
        second = self.ipv6.network_address + 2
        return second if second != self.ipv6_gateway else second + 1


class CardSpec(Frozen):
    """A single network card."""

    name: InterfaceName
    mac: Mac


class InterfaceSpec(Frozen):
    """A network card of a node, or a bond of the cards ``members``, of which one carries everything at a time."""

    name: InterfaceName
    network: Name
    address: IPv4Address | None
    mac: Mac
    members: tuple[CardSpec, ...] = ()

    @property
    def cards(self) -> tuple[CardSpec, ...]:
        """What is plugged into the network: the members of a bond, else the card itself."""
        return self.members or (CardSpec(name=self.name, mac=self.mac),)


class DiskSpec(Frozen):
    """An additional disk; ``size`` in bytes."""

    name: Name
    size: int

    @property
    def device(self) -> str:
        """The same path with every driver: virtio's serial number in a VM, a bound loop device in a container."""
        return f"/dev/disk/by-id/virtio-{self.name}"


class NodeSpec(Frozen):
    """A machine; ``memory`` and ``disk`` in bytes. ``like`` is the node it was copied from, if any."""

    name: HostName
    cpus: int
    memory: int
    disk: int
    disks: tuple[DiskSpec, ...]
    interfaces: tuple[InterfaceSpec, ...]
    runs: tuple[Component, ...]
    join: Join = Join.START
    like: HostName | Literal[""] = ""

    def has(self, *components: Component) -> bool:
        """True when this node runs any of the components."""
        for component in components:  # noqa: SIM110 (a plan asks dozens of times for each node; a generator costs more)
            if component in self.runs:
                return True
        return False


class SourceSpec(Frozen):
    """A project from somebody's own tree instead of the release's.

    ``layer`` is the image of its modules; ``origin`` what the user named; ``commit`` git's, empty where there is none;
    ``schema_digest`` the hash of the modules that change tables.
    """

    project: str
    layer: str
    version: str
    origin: str
    commit: str = ""
    dirty: bool = False
    schema_digest: str = ""

    @property
    def title(self) -> str:
        """What runs, in few words: ``26.1.1.dev3 (1a2b3c4d5e6f, changed)``."""
        words = [word for word in (self.commit[:12], "changed" if self.dirty else "") if word]
        return f"{self.version} ({', '.join(words)})" if words else self.version


class LabSpec(Frozen):
    """Everything the planner and the drivers need to know about one lab.

    ``nodes`` are its machines; ``later`` are nodes of its topology that have not joined yet.
    """

    name: Name
    topology: Name
    release: Word
    base: Word
    package_source: Word
    driver: Word
    #: the cloud that the machines are on, for a driver that needs one
    cloud: Annotated[str, Field(pattern=CLOUD)] = ""
    anti_affinity: bool = False  # of a cloud's servers
    region: Word
    workers: int
    threads: int
    telemetry_interval: int = 30  # seconds
    mechanism: Mechanism  # never AUTO
    userspace_datapath: bool = False  # Open vSwitch forwards in its own process: the kernel has no module for it
    virt_type: VirtType
    volume_backend: VolumeBackend  # never AUTO
    own_kernel: bool = False  # VMs, not containers
    patience: float = 1.0  # services are configured for nodes this many times slower than the host
    vault: Vault = VAULT
    #: of package downloads, its password a mark; empty: none
    proxy: Annotated[str, Field(pattern=rf"^$|{RECORDED}")] = ""
    networks: dict[str, NetworkSpec]
    nodes: dict[str, NodeSpec]
    passwords: dict[str, str]
    fixtures: Fixtures
    snapshots: tuple[str, ...] = ()
    later: dict[str, NodeSpec] = Field(default_factory=dict)
    sources: dict[str, SourceSpec] = Field(default_factory=dict)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with other values; what was worked out from the old ones is worked out anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields:
            del copied.__dict__[name]
        return copied

    @model_validator(mode="after")
    def _keys_are_names(self) -> LabSpec:
        for kind in (self.networks, self.nodes, self.later):
            for key, found in kind.items():
                if key != found.name:
                    raise ValueError(f"{key!r} has another name: {found.name!r}")
        return self

    @model_validator(mode="after")
    def _nodes_can_be_reached(self) -> LabSpec:
        management = {n.name for n in self.networks.values() if n.role is NetworkRole.MANAGEMENT}
        for node in (*self.nodes.values(), *self.later.values()):
            if not any(card.network in management and card.address for card in node.interfaces):
                raise ValueError(f"{node.name} has no address in the management network")
        return self

    def node(self, name: str) -> NodeSpec:
        """A node by its name.

        :raises LabError: there is none; the message lists the nodes.
        """
        if name not in self.nodes:
            raise LabError(f"{self.name} has no node '{name}'; it has {', '.join(self.nodes)}")
        return self.nodes[name]

    def network(self, role: NetworkRole) -> NetworkSpec | None:
        """The lab's network with that role, the first of several; every lab has a management network."""
        return next((n for n in self.networks.values() if n.role is role), None)

    @property
    def providers(self) -> tuple[NetworkSpec, ...]:
        """The provider networks; the first is the one of the fixtures' external network."""
        return tuple(n for n in self.networks.values() if n.role is NetworkRole.PROVIDER)

    @property
    def segments(self) -> tuple[NetworkSpec, ...]:
        """The networks with bridges and cards of their own."""
        return tuple(n for n in self.networks.values() if not n.wire)

    def wires(self, node: NodeSpec) -> tuple[tuple[str, InterfaceSpec], ...]:
        """The physical networks that a node reaches, each with its card."""
        return tuple(
            (self.networks[card.network].physical, card)
            for card in node.interfaces
            if self.networks[card.network].role is NetworkRole.PROVIDER
        )

    @property
    def management(self) -> NetworkSpec:
        """The network that carries the APIs."""
        found = self.network(NetworkRole.MANAGEMENT)
        assert found is not None, "check() refuses topologies without a management network"
        return found

    def address(self, node: NodeSpec, role: NetworkRole = NetworkRole.MANAGEMENT) -> IPv4Address:
        """The node's address for that role; tunnels fall back to the management network.

        :raises KeyError: when the node has no address there (``check`` rejects such topologies).
        """
        network = self.network(role) or self.management
        for interface in node.interfaces:
            if interface.network == network.name and interface.address is not None:
                return interface.address
        if role is NetworkRole.OVERLAY:
            return self.address(node)
        raise KeyError(f"{node.name} has no address in {network.name}")

    @cached_property
    def hosts_file(self) -> str:
        """/etc/hosts of every node and of the lab's namespace: one line per node with its management address."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        lines += [f"{self.address(node)} {node.name}" for node in self.nodes.values()]
        return "\n".join(lines) + "\n"

    def interface(self, node: NodeSpec, role: NetworkRole) -> InterfaceSpec | None:
        """The node's interface in the network with that role, if any."""
        network = self.network(role)
        if network is None:
            return None
        return next((i for i in node.interfaces if i.network == network.name), None)

    @cached_property
    def _runners(self) -> dict[Component, tuple[NodeSpec, ...]]:
        """The nodes by what they run: a plan asks many times for each node."""
        return {c: tuple(n for n in self.nodes.values() if c in n.runs) for c in Component}

    def running(self, *components: Component) -> tuple[NodeSpec, ...]:
        """The nodes that run any of the components, in the topology's order."""
        if len(components) == 1:
            return self._runners[components[0]]
        return tuple(n for n in self.nodes.values() if n.has(*components))

    def host_of(self, component: Component) -> NodeSpec:
        """The node that runs a component of which a lab has only one.

        :raises KeyError: when no node runs it.
        """
        nodes = self.running(component)
        if not nodes:
            raise KeyError(f"no node of {self.name} runs {component}")
        return nodes[0]

    def has(self, *components: Component) -> bool:
        """True when some node runs any of the components."""
        return any(self._runners[component] for component in components)
