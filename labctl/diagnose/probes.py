"""Tests of nodes that no operation of the plan makes: what breaks beside labctl's own files."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from labctl.components import Component
from labctl.diagnose.model import Level
from labctl.operations.node import Command, Operation, quote
from labctl.services import SERVICES, openvswitch
from labctl.services.base import STAMPS, Context
from labctl.services.cinder import VOLUME_GROUP
from labctl.services.infra import time_server
from labctl.services.keystone import BOOTSTRAPPED
from labctl.topology.model import Mechanism, NetworkRole, VolumeBackend
from labctl.topology.spec import NodeSpec

#: Percent of a file system from which on writers fail.
FULL = 97
#: What only a shell understands.
_SHELL = re.compile(r"[;|&<>$*]")


@dataclass(frozen=True)
class Probe:
    """One test on a node: a function of look.sh and its arguments, which prints what is wrong and fails.

    ``fix`` is a command on that node, or empty for labctl's own; with ``safe``, labctl may run it itself.
    """

    row: str
    level: Level
    service: str
    call: tuple[str, ...]
    fix: str
    safe: bool = False
    #: what labctl may run, where that is more than the command
    operations: tuple[Operation, ...] = ()

    @property
    def title(self) -> str:
        return " ".join(self.call).removeprefix("look_")

    def shell(self) -> str:
        return " ".join(quote(word) for word in self.call)

    def guide(self) -> str:
        return self.shell()

    @property
    def words(self) -> str:
        """The fix as the words of a command on the node: what is more than one command goes to a shell."""
        return f"sh -c {quote(self.fix)}" if _SHELL.search(self.fix) else self.fix

    @property
    def mend(self) -> tuple[Operation, ...]:
        """The fix as an operation, where it is safe."""
        return self.operations or ((Command(self.fix, self.fix),) if self.safe else ())


def of_node(ctx: Context, node: NodeSpec, finished: Container[str]) -> tuple[Probe, ...]:
    """The tests of one node.

    :param finished: the stages that have made what a test looks at.
    """
    return tuple(probe for stage, parts in _PARTS for part in parts if stage in finished for probe in part(ctx, node))


def _names(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    for other in ctx.lab.nodes.values():
        call = ("look_name", other.name, str(ctx.lab.address(other)))
        yield Probe("B9", Level.NETWORK, "node", call, "cat /etc/hosts")
    # it slows down what it does not stop, so it explains nothing else
    yield Probe("L8", Level.GUEST, "node", ("look_resolver",), "cat /etc/resolv.conf")


def _cards(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    for card in node.interfaces:
        name = card.name
        mtu = str(ctx.lab.networks[card.network].mtu)
        again = f"ip link set dev {name} mtu {mtu}"
        yield Probe("B40", Level.NETWORK, "node", ("look_card", name, mtu), again, True)
        yield Probe("M3", Level.NETWORK, "node", ("look_card_up", name), f"ip link set dev {name} up", True)
    if not node.has(Component.NEUTRON_L2):
        return
    if ctx.lab.mechanism is Mechanism.LINUXBRIDGE:
        again = f"systemctl restart {ctx.base.unit('neutron-linuxbridge-agent')}"
        yield Probe("A28", Level.AGENT, "neutron", ("look_bridges",), again, True)
    tunnel = ctx.lab.interface(node, NetworkRole.OVERLAY)
    if tunnel and tunnel.address:
        call = ("look_address", str(tunnel.address))
        device = openvswitch.bridge_of(tunnel) if openvswitch.tunnels_on_bridge(ctx, node) else tunnel.name
        yield Probe("B33", Level.AGENT, "neutron", call, f"ip address add {tunnel.address} dev {device}")


def _time(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    if node.name != time_server(ctx.lab).name:
        yield Probe("B1", Level.TIME, "chrony", ("look_clock",), "chronyc -n makestep", True)


def _disk(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    yield Probe("L2", Level.DISK, "node", ("look_room", str(FULL)), "du -xh -d 3 /var | sort -h | tail")
    yield Probe("L3", Level.SERVICE, "node", ("look_descriptors",), "systemctl edit UNIT")


def _messaging(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    if node.has(Component.RABBITMQ):
        grant = "rabbitmqctl -q set_permissions openstack '.*' '.*' '.*'"
        yield Probe("A10", Level.MESSAGING, "rabbitmq", ("look_permissions", "openstack"), grant, True)
        limit = "rabbitmqctl -q set_disk_free_limit 50MB"
        yield Probe("A10", Level.MESSAGING, "rabbitmq", ("look_alarms",), limit, True)


def _identity(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    if not node.has(Component.KEYSTONE):
        return
    for kind in ("fernet", "credential") if ctx.release.credential_keys else ("fernet",):
        keys = f"/etc/keystone/{kind}-keys"
        # what was encrypted with other keys stays unreadable; from now on these are the lab's
        fix = f"chown -R keystone:keystone {keys}; chmod 700 {keys}; chmod 600 {keys}/*; touch {BOOTSTRAPPED}"
        yield Probe("L7", Level.FILES, "keystone", ("look_keys", keys, "keystone", BOOTSTRAPPED), fix, True)


def _tables(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    if not node.has(Component.MARIADB):
        return
    for service in SERVICES:
        if not ctx.lab.has(*service.components):
            continue
        chains = [chain for name, chain in service.populate(ctx) if name == node.name]
        syncs = tuple(replace(c, unless="") for chain in chains for c in chain.commands if STAMPS in c.unless)
        for database in service.databases(ctx) if syncs else ():
            call = ("look_tables", database.name, service.name)
            yield Probe("A3", Level.SCHEMA, service.name, call, "", operations=syncs)


def _storage(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    if node.has(Component.GLANCE):
        store = "/var/lib/glance/images"
        fix = f"install -d -o glance -g glance -m 755 {store}"
        yield Probe("A15", Level.SERVICE, "glance", ("look_writable", store, "glance"), fix, True)
    if node.has(Component.GLANCE) and node.has(Component.MARIADB):
        fix = ". /root/admin-openrc; openstack image list"
        yield Probe("L11", Level.GUEST, "glance", ("look_images", "/var/lib/glance/images"), fix)
    if node.has(Component.CINDER_VOLUME) and ctx.lab.volume_backend is VolumeBackend.LVM:
        yield Probe("A30", Level.AGENT, "cinder", ("look_volume_group", VOLUME_GROUP), f"lvs {VOLUME_GROUP}")


def _nova(ctx: Context, node: NodeSpec) -> Iterator[Probe]:
    if not (ctx.release.cells_v2 and node.has(Component.NOVA_CONTROLLER) and node.has(Component.MARIADB)):
        return
    for compute in ctx.lab.running(Component.NOVA_COMPUTE):
        # by service: a host that was mapped once is passed over by its compute node (Nova, bug 1755602)
        fix = 'su -s /bin/sh -c "nova-manage cell_v2 discover_hosts --by-service" nova'
        yield Probe("A18", Level.AGENT, "nova", ("look_mapped", compute.name), fix, True)


#: What can be tested after which stage.
_PARTS = (
    ("infrastructure", (_names, _cards, _time, _disk, _messaging)),
    ("keystone", (_identity,)),
    ("databases", (_tables,)),
    ("services", (_storage,)),
    ("compute", (_nova,)),
)
