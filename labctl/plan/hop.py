"""The plan of a hop: the new release's own plan over the data of the one before, and what only an upgrade does.

Nothing serves while it runs, so the databases are brought up to date in one go (modern 6.1); what a project still
migrates while it serves comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.components import Component
from labctl.operations import openstack
from labctl.operations.look import Look
from labctl.operations.node import Chain, Command, Item, Parallel
from labctl.plan.planner import Plan, Stage, plan
from labctl.services import SERVICES, keystone
from labctl.services.base import STAMPS, Check, Context, Service
from labctl.topology.spec import NodeSpec

#: Each of these stages comes right after the one that it names.
FORGET, ADAPT, TABLES, CHECKS, MIGRATIONS = "forget", "adapt", "tables", "checks", "migrations"
_AFTER = {
    "infrastructure": FORGET,
    "catalog": ADAPT,
    "databases": TABLES,
    "services": CHECKS,
    "verify": MIGRATIONS,
}
SOURCE = "guide: upgrade of each project; modern 6.1"


def hop(before: Context, after: Context) -> Plan:
    """What brings a stopped lab of one release to the next."""
    made = plan(after)
    extra = {stage.name: stage for stage in _extra(before, after)}
    stages = [s for stage in made.stages for s in (stage, extra.get(_AFTER.get(stage.name, ""))) if s]
    return Plan(after, tuple(stages))


def last(made: Plan) -> str:
    """The name of a plan's last stage."""
    return made.stages[-1].name


def _extra(before: Context, after: Context) -> Iterator[Stage]:
    upgrade = after.release.upgrade
    assert upgrade is not None, "a chain has only hops that the releases' facts know"
    yield Stage(FORGET, {node.name: tuple(_forget(after, node)) for node in after.lab.nodes.values()})
    changes: list[openstack.ApiOperation] = [openstack.CatalogGone(type_) for type_ in upgrade.removed_services]
    changes += [openstack.RoleImmutable(role) for role in upgrade.immutable_roles]
    if changes:
        yield Stage(ADAPT, api=tuple(changes))
    services = present(after)
    yield Stage(TABLES, {after.host(Component.MARIADB): (Parallel(tuple(_tables(after, services))),)})
    able = (service for service in services if service.name not in upgrade.broken_checks)
    yield Stage(CHECKS, commands("upgrade check", (c for s in able for c in s.upgrade_checks(after))))
    yield Stage(MIGRATIONS, commands("online data migrations", (c for s in services for c in s.migrations(after))))


def present(ctx: Context) -> tuple[Service, ...]:
    """The services of a lab."""
    return tuple(service for service in SERVICES if ctx.lab.has(*service.components))


def _forget(ctx: Context, node: NodeSpec) -> Iterator[Item]:
    """What was done once for the lab is done once for each release; files that it no longer reads."""
    yield Command(
        "what is done once for each release is due again",
        f"rm -f {STAMPS}/sync-* {keystone.BOOTSTRAPPED}",
        source=SOURCE,
    )
    assert ctx.release.upgrade is not None
    for project in ctx.release.upgrade.policy_yaml:
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
            yield Look(Command(title, test, changes=False, source=SOURCE), test)


def commands(title: str, checks: Iterable[Check]) -> dict[str, tuple[Item, ...]]:
    """Commands as stages have them: on each node in parallel, named by their own first words."""
    nodes: dict[str, list[Chain]] = {}
    for check in checks:
        name = check.command.partition('"')[2].partition(" ")[0] or check.command.partition(" ")[0]
        command = Command(name, check.command, source=SOURCE)
        nodes.setdefault(check.node, []).append(Chain(f"{title}: {name}", (command,)))
    return {node: (Parallel(tuple(chains)),) for node, chains in nodes.items()}
