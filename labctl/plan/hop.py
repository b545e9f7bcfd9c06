"""The plan of a hop: the new release's own plan over the data of the one before, and what only an upgrade does.

Nothing serves while it runs, so the databases are brought up to date in one go (modern 6.1); what a project still
migrates while it serves comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from labctl.components import Component
from labctl.operations import openstack
from labctl.operations.look import Look
from labctl.operations.node import Command, Item, Operation, Parallel, quote
from labctl.plan.planner import Plan, Stage, plan, present
from labctl.releases.model import Upgrade
from labctl.services import keystone, nova, placement, rebinding
from labctl.services.base import STAMPS, UPGRADE, Context, Service
from labctl.topology.model import Mechanism
from labctl.topology.spec import NodeSpec

#: Beginning of what labctl notes of each synchronisation of tables that is done.
SYNCED = f"{STAMPS}/sync-"
FORGET, ADAPT, MOVE, TABLES, BINDINGS = "forget", "adapt", "move", "tables", "bindings"
CHECKS, NORTHBOUND, LOOSE, MIGRATIONS = "checks", "northbound", "loose", "migrations"
#: A stage of every plan, and those of a hop that come right after it.
_AFTER = {
    "infrastructure": (FORGET,),
    "catalog": (ADAPT,),
    "configure": (MOVE,),
    "databases": (TABLES, BINDINGS),
    "services": (CHECKS, NORTHBOUND),
    "compute": (LOOSE,),
    "verify": (MIGRATIONS,),
}


def hop(before: Context, ctx: Context) -> Plan:
    """What brings a stopped lab, as it was, to another release, base or mechanism driver."""
    extra = {stage.name: stage for stage in _extra(before, ctx)}
    made: list[Stage] = []
    for stage in plan(ctx).stages:
        # what comes between is for all that follows
        made += [replace(stage, needs=None), *(extra[name] for name in _AFTER.get(stage.name, ()) if name in extra)]
    return Plan(ctx, tuple(made))


def particular(before: Context, ctx: Context) -> Upgrade:
    """What is particular about coming to a release; nothing for a lab that has it."""
    return (ctx.release.upgrade if ctx.release is not before.release else None) or Upgrade(after=())


def _extra(before: Context, ctx: Context) -> Iterator[Stage]:
    upgrade = particular(before, ctx)
    yield Stage(FORGET, {node.name: tuple(_forget(before, ctx, upgrade, node)) for node in ctx.lab.nodes.values()})
    changes: list[openstack.ApiOperation] = [openstack.CatalogGone(type_) for type_ in upgrade.removed_services]
    changes += [openstack.RoleImmutable(role) for role in upgrade.immutable_roles]
    if changes:
        yield Stage(ADAPT, api=tuple(changes))
    if placement.moves(before, ctx):
        yield Stage(MOVE, {ctx.host(Component.MARIADB): (placement.extracted(),)})
    services = present(ctx)
    yield Stage(TABLES, {ctx.host(Component.MARIADB): (Parallel(tuple(_tables(ctx, services))),)})
    able = (service for service in services if service.name not in upgrade.broken_checks)
    yield Stage(CHECKS, _in_parallel(command for service in able for command in service.upgrade_checks(ctx)))
    if ctx.lab.mechanism is not before.lab.mechanism:
        yield Stage(BINDINGS, {ctx.host(Component.MARIADB): rebinding.moved(ctx, before.lab.mechanism)})
        if ctx.lab.mechanism is Mechanism.OVN:
            yield Stage(NORTHBOUND, {ctx.host(Component.NEUTRON_SERVER): rebinding.northbound(ctx)})
        yield Stage(LOOSE, api=rebinding.bound(ctx))
    yield migrations(ctx)


def migrations(ctx: Context) -> Stage:
    """The data migrations that a release does while it serves."""
    return Stage(MIGRATIONS, _in_parallel(c for service in present(ctx) for c in service.migrations(ctx)))


def _forget(before: Context, ctx: Context, upgrade: Upgrade, node: NodeSpec) -> Iterator[Item]:
    """What was done once for the lab is done once for each release; files that it no longer reads."""
    yield Command(
        "what is done once for each release is due again",
        f"rm -f {SYNCED}* {keystone.BOOTSTRAPPED}",
        source=UPGRADE,
    )
    if ctx.base is not before.base and node.has(Component.MARIADB):
        yield Command(
            "MariaDB's own tables are those of its version",
            "mariadb-upgrade --silent",
            unless="mariadb-upgrade --check-if-upgrade-is-needed --silent; [ $? = 1 ]",
            source="MariaDB: mariadb-upgrade; modern 6.3",
        )
    if node.has(Component.MARIADB):
        for database, statement in upgrade.mended_rows:
            yield Command(
                f"rows of {database} that the new tables would refuse: {statement.split()[1]}",
                f"mysql -u root -e {quote(statement)} {database}",
                unless=f"! mysql -u root -e 'use {database}' 2>/dev/null",
                source=f"labctl/releases/{ctx.release.name}.py",
            )
    if before.lab.mechanism is Mechanism.OPENVSWITCH is not ctx.lab.mechanism and node.has(Component.NEUTRON_L2):
        yield rebinding.bridges_gone()
    if node.has(Component.NOVA_COMPUTE) and nova.raw_disks(before) and not nova.raw_disks(ctx):
        yield nova.formatted()
    for project in upgrade.policy_yaml:
        old, new = f"/etc/{project}/policy.json", f"/etc/{project}/policy.yaml"
        yield Command(
            f"{project}'s policy is YAML",
            f"oslopolicy-convert-json-to-yaml --namespace {project} --policy-file {old} --output-file {new} && "
            f"chown --reference={old} {new} && chmod --reference={old} {new} && mv {old} {old}.before",
            unless=f"[ ! -s {old} ] || [ -e {new} ]",
            source="oslo.policy: oslopolicy-convert-json-to-yaml; modern 6.2",
        )


def _tables(ctx: Context, services: tuple[Service, ...]) -> Iterator[Look]:
    """Whether every database is at the last revision of the release: a service would find out later."""
    for service in services:
        for database in service.databases(ctx):
            title = f"tables of {database.name} are those of {ctx.release.title}"
            test = f"look_tables {database.name} {service.name}"
            yield Look(Command(title, test, changes=False, source=UPGRADE), test)


def _in_parallel(commands: Iterable[tuple[str, Command]]) -> dict[str, tuple[Item, ...]]:
    """Commands by their nodes, as stages have them."""
    nodes: dict[str, list[Operation]] = {}
    for node, command in commands:
        nodes.setdefault(node, []).append(command)
    return {node: (Parallel(tuple(found)),) for node, found in nodes.items()}
