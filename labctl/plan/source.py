"""What changes on a running lab when projects get another source: their modules, tables and daemons, and no others'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labctl.operations.node import Command, Item, Operation, Parallel, quote
from labctl.operations.populate import Populate
from labctl.operations.source import NoSource
from labctl.plan.placed import configure, placed, start, trees
from labctl.plan.planner import Plan, Stage, keystone_stage, per_node, present
from labctl.services.base import STAMPS, Context, Service, stamp
from labctl.topology.spec import NodeSpec

SOURCE = "source"


def changed(before: Context, ctx: Context, own: Mapping[str, str], projects: tuple[str, ...]) -> Plan:
    """The part of a lab's plan that concerns some of its projects.

    :param own: hash of the release's modules that change tables, by project.
    """
    services = tuple(s for s in present(ctx) if s.name in projects)
    others = tuple(s for s in services if s.name != "keystone")
    stages = [Stage(SOURCE, per_node(ctx, lambda n: tuple(_modules(before, ctx, n, services, own))))]
    if len(others) < len(services):
        stages.append(keystone_stage(ctx))
    parts = placed(ctx, others)
    stages += [
        Stage("configure", per_node(ctx, lambda n: configure(parts[n.name]))),
        Stage("databases", _tables(ctx, others)),
        Stage("services", per_node(ctx, lambda n: start(ctx, n, parts[n.name], "services"))),
        Stage("compute", per_node(ctx, lambda n: start(ctx, n, parts[n.name], "compute"))),
        Stage("verify", api=tuple(o for s in services for o in s.verify(ctx))),
    ]
    return Plan(ctx, tuple(stage for stage in stages if stage.operations()))


def _modules(
    before: Context, ctx: Context, node: NodeSpec, services: tuple[Service, ...], own: Mapping[str, str]
) -> Iterator[Item]:
    names = {service.name for service in services}
    yield from (tree for tree in trees(ctx, node) if tree.project in names)
    for service in services:
        had, has = (service.name in each.lab.sources for each in (before, ctx))
        if had and not has and node.has(*service.components):
            yield NoSource(service.name, ctx.release.python(ctx.base.source))
        chains = [chain for name, chain in service.populate(ctx) if name == node.name]
        if has and chains and own[service.name]:
            yield _due(service.name, ctx.lab.sources[service.name].schema_digest, own[service.name], chains)


def _due(project: str, schema: str, own: str, chains: list[Populate]) -> Command:
    """Tables are synchronised again where they were made by other modules; a node knows by which."""
    kept = f"{STAMPS}/schema-{project}"
    stamps = " ".join(quote(stamp(command.title)) for chain in chains for command in chain.commands)
    return Command(
        f"tables of {project} are due again",
        f"rm -f {stamps} && echo {schema} >{kept}",
        unless=f'[ "$(cat {kept} 2>/dev/null || echo {own})" = {schema} ]',
    )


def _tables(ctx: Context, services: tuple[Service, ...]) -> dict[str, tuple[Item, ...]]:
    nodes: dict[str, list[Operation]] = {}
    for service in services:
        for name, chain in service.populate(ctx):
            nodes.setdefault(name, []).append(chain)
    return {name: (Parallel(tuple(chains)),) for name, chains in nodes.items()}
