"""What each service is on each node: what configures it there, and the start of its daemons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from labctl.operations.node import Item, Operation, Parallel, Unit, Wait
from labctl.operations.source import SourceTree
from labctl.services import SERVICES
from labctl.services.base import Context, Daemon, Service
from labctl.topology.spec import NodeSpec


def trees(ctx: Context, node: NodeSpec) -> tuple[SourceTree, ...]:
    """The projects' own trees that a node uses."""
    return tuple(
        SourceTree(service.name, ctx.lab.sources[service.name].layer, ctx.release.python(ctx.base.source))
        for service in SERVICES
        if service.name in ctx.lab.sources and node.has(*service.components)
    )


def _once(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Merge the starts of a unit that several daemons share."""
    made: dict[str, Unit] = {}
    for unit in units:
        if (known := made.get(unit.name)) is not None:
            unit = replace(known, inputs=known.inputs + unit.inputs, part=f"{known.part}+{unit.part}")
        made[unit.name] = unit
    return tuple(made.values())


@dataclass(frozen=True, slots=True)
class Placed:
    """What a service is on one node: the operations that configure it, and the daemons that read what they write."""

    service: Service
    operations: tuple[Operation, ...]
    daemons: tuple[Daemon, ...]
    #: of what its daemons read
    inputs: tuple[str, ...]


def placed(ctx: Context, services: Iterable[Service]) -> dict[str, tuple[Placed, ...]]:
    """The services that each node has something of."""
    read = lru_cache(maxsize=256)(_read)  # many nodes have the same files
    return {
        node.name: tuple(
            Placed(service, operations, daemons, tuple(read(o) for o in operations) if daemons else ())
            for service in services
            for operations, daemons in ((service.configure(ctx, node), service.daemons(ctx, node)),)
            if operations or daemons
        )
        for node in ctx.lab.nodes.values()
    }


def _read(operation: Operation) -> str:
    """What a daemon reads of what an operation writes."""
    return operation.shell() + getattr(operation, "content", "")


def configure(found: Iterable[Placed]) -> tuple[Item, ...]:
    """Write a node's configuration."""
    return tuple(operation for part in found for operation in part.operations)


def start(ctx: Context, node: NodeSpec, found: Iterable[Placed], stage: str) -> tuple[Item, ...]:
    """Start a node's daemons of a stage, order by order, then wait until they are ready."""
    daemons: list[tuple[Daemon, tuple[Unit, ...]]] = []
    for part in found:
        project, inputs = part.service.name, part.inputs
        own = tuple(tree.layer for tree in trees(ctx, node) if tree.project == project)
        for daemon in part.daemons:
            if daemon.stage == stage:
                names = ctx.base.units[daemon.name]
                # libvirt and Open vSwitch, which it starts too, are not of its modules
                read = inputs + own if own and daemon.name.startswith(project) else inputs
                units = tuple(Unit(u, read, part=project if u in ctx.base.shared_units else "") for u in names)
                daemons.append((daemon, units))
    items: list[Item] = []
    for order in sorted({d.order for d, _ in daemons}):
        group = [(d, units) for d, units in daemons if d.order == order]
        items += [command for d, _ in group for command in d.before]
        items.append(Parallel(_once(u for _, units in group for u in units)))
        items += [Wait(what, test, tuple(u.name for u in units), 120) for d, units in group for what, test in d.ready]
    return tuple(items)
