"""Turn a lab spec into a plan: the services' answers, sorted into stages.

Pure: the same spec gives the same plan, without side effects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from labctl.components import Component
from labctl.operations import openstack
from labctl.operations.networks import ProviderNetwork, SelfServiceNetwork
from labctl.operations.node import (
    Copy,
    Distributions,
    File,
    Item,
    Operation,
    Packages,
    Parallel,
    Record,
    flatten,
)
from labctl.operations.script import program
from labctl.plan.placed import configure, placed, start, trees
from labctl.releases.model import PackageSource
from labctl.secret import mark, names, unwritten
from labctl.services import SERVICES, infra, nova, packages, redhat
from labctl.services.base import Context, Service
from labctl.topology.spec import NodeSpec


def _text(operation: Copy | openstack.ApiOperation) -> str:
    """An operation as text; ``repr`` escapes the control characters of marks."""
    return repr(operation).replace(r"\x02", "\x02").replace(r"\x03", "\x03")


#: Bytes of a file that goes into a digest by its own hash: /etc/hosts grows with the nodes, and each has it.
_LARGE = 2**16


@dataclass(frozen=True)
class Stage:
    """One stage of bringing up a lab: operations on each node, then calls to the APIs."""

    name: str
    nodes: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    #: after the node operations: files to copy from one node to others
    copies: tuple[Copy, ...] = ()
    api: tuple[openstack.ApiOperation, ...] = ()
    #: after the API operations, on nodes again
    after: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    #: the stages that must be finished before; None: the one before it
    needs: tuple[str, ...] | None = None

    def on(self, node: str) -> tuple[Operation, ...]:
        """Its operations on a node, in their order."""
        return flatten((*self.nodes.get(node, ()), *self.after.get(node, ())))

    def operations(self) -> int:
        """How many operations the stage has."""
        on_nodes = [i for part in (self.nodes, self.after) for i in part.values()]
        return sum(len(flatten(items)) for items in on_nodes) + len(self.copies) + len(self.api)

    def digest(self, reveal: Callable[[str], str]) -> str:
        """Hash of everything the stage does; ``reveal`` fills in the secrets, so a changed one changes the hash."""

        @lru_cache(maxsize=64)  # many files are the same on many nodes
        def written(text: str) -> bytes:
            data = reveal(text).encode()
            return data if len(data) <= _LARGE else hashlib.sha256(data).digest()

        hashed = hashlib.sha256(written(self.name))
        for text in self.texts():
            hashed.update(b"\0")
            hashed.update(written(text))
        return hashed.hexdigest()

    def texts(self) -> Iterator[str]:
        """Everything the stage does, one after the other: a lab's programs and files together are large."""
        for part in (self.nodes, self.after):
            for node, items in part.items():
                yield node
                yield program(self.name, items)
                yield from (o.content for o in flatten(items) if isinstance(o, File))
        yield from map(_text, (*self.copies, *self.api))


@dataclass(frozen=True)
class Plan:
    """All stages of a lab, in order."""

    context: Context
    stages: tuple[Stage, ...]

    def secrets(self) -> set[str]:
        """The names of all secrets the plan refers to."""
        return {name for stage in self.stages for text in stage.texts() for name in names(text)}

    def files(self, node: str) -> tuple[File, ...]:
        """Every file the plan writes on a node."""
        return tuple(o for stage in self.stages for o in stage.on(node) if isinstance(o, File))


def present(ctx: Context) -> tuple[Service, ...]:
    """The services of a lab, in the order of their chapters."""
    return tuple(s for s in SERVICES if ctx.lab.has(*s.components))


def per_node(ctx: Context, items: Callable[[NodeSpec], tuple[Item, ...]]) -> dict[str, tuple[Item, ...]]:
    """Operations by the names of the nodes that have some."""
    made = {node.name: items(node) for node in ctx.lab.nodes.values()}
    return {name: operations for name, operations in made.items() if operations}


def _packages(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    names: list[str] = list(ctx.base.common_packages)
    for component in infra.PORTS:
        if node.has(component):
            names += ctx.base.packages[component]
    for service in present(ctx):
        names += service.packages(ctx, node)
    wanted = redhat.present_names(ctx.release, names) if ctx.base.redhat else tuple(dict.fromkeys(names))
    system = Packages(wanted, ctx.base.family, ctx.base.installer)
    sources = redhat.sources(ctx.base, ctx.release, ctx.lab.vault, wanted, ctx.lab.proxy)
    return (*packages.through(ctx), *sources, system, *_projects(ctx), *trees(ctx, node))


def _projects(ctx: Context) -> tuple[Item, ...]:
    """OpenStack itself, where it is not installed from system packages."""
    if ctx.base.source is not PackageSource.PYPI or ctx.release.pypi is None:
        return ()
    return (Distributions(ctx.release.environment, tuple(ctx.release.pins.items())),)


def keystone_stage(ctx: Context) -> Stage:
    """The identity service first: the others need its accounts before they start."""
    (service,) = (s for s in SERVICES if s.name == "keystone")
    database_node, node = ctx.host(Component.MARIADB), ctx.lab.nodes[ctx.identity_host]
    accounts: tuple[Item, ...] = service.databases(ctx)
    found = placed(ctx, (service,))[node.name]
    items: tuple[Item, ...] = (
        *configure(found),
        *(made for _, made in service.populate(ctx)),
        *start(ctx, node, found, "services"),
    )
    if node.name == database_node:
        return Stage("keystone", {node.name: accounts + items})
    return Stage("keystone", {database_node: accounts}, after={node.name: items})


def _databases(ctx: Context, services: tuple[Service, ...]) -> Stage:
    """Accounts first; then every service's schema, in parallel."""
    database_node = ctx.host(Component.MARIADB)
    made: list[Operation] = [d for s in services for d in s.databases(ctx)]
    nodes: dict[str, list[Item]] = {database_node: list(made)}
    elsewhere: dict[str, list[Operation]] = {}
    for service in services:
        for name, chain in service.populate(ctx):
            elsewhere.setdefault(name, []).append(chain)
    after: dict[str, tuple[Item, ...]] = {}
    for name, chains in elsewhere.items():
        if name == database_node:
            nodes[name].append(Parallel(tuple(chains)))
        else:
            after[name] = (Parallel(tuple(chains)),)
    return Stage("databases", {n: tuple(i) for n, i in nodes.items()}, after=after)


def _fixtures(ctx: Context) -> tuple[openstack.ApiOperation, ...]:
    """What the notes create before their first guest."""
    wanted = ctx.lab.fixtures
    made: list[openstack.ApiOperation] = [
        openstack.Project(wanted.project, "Demo Project"),
        openstack.User(wanted.user, mark("DEMO_PASS")),
        openstack.Grant(ctx.release.member_role, wanted.user, wanted.project),
    ]
    for role in (role for service in present(ctx) for role in service.user_roles):
        made += [
            openstack.Grant(role, wanted.user, wanted.project),
            openstack.Grant(role, "admin", "admin"),
        ]
    if ctx.lab.has(Component.NOVA_CONTROLLER):
        made += [openstack.FlavorEntry(name, f.vcpus, f.ram // 2**20, f.disk) for name, f in wanted.flavors.items()]
    if ctx.lab.has(Component.GLANCE):
        made.append(openstack.GuestImageUpload(wanted.image))
    if ctx.lab.has(Component.NEUTRON_L3):
        made += _networks(ctx)
    return tuple(made)


def _networks(ctx: Context) -> Iterator[ProviderNetwork | SelfServiceNetwork]:
    """The provider networks, the first under the name of the fixtures, and the project's own."""
    wanted = ctx.lab.fixtures
    made: list[ProviderNetwork] = []
    for network in ctx.lab.providers:
        if network.pool is None:
            continue
        wire = ctx.lab.networks[network.carrier]
        made.append(
            ProviderNetwork(
                network.name if made else wanted.external_network,
                network.physical,
                str(network.cidr),
                str(network.gateway),
                str(network.pool.start),
                str(network.pool.end),
                str(network.dns or ""),
                vlan=network.vlan,
                mtu=network.mtu if network.mtu != wire.mtu else None,
                ipv6=str(network.ipv6 or ""),
                ipv6_gateway=str(network.ipv6_gateway or ""),
            )
        )
    yield from made
    if made and wanted.internal_network:
        outside = ctx.lab.providers[0]
        inner = SelfServiceNetwork(
            wanted.internal_network,
            str(wanted.internal_cidr),
            wanted.project,
            wanted.router,
            wanted.external_network,
            mtu=wanted.internal_mtu,
        )
        if wanted.internal_ipv6:
            inner = replace(
                inner,
                ipv6=str(wanted.internal_ipv6),
                ipv6_mode=wanted.internal_ipv6_mode.value,
                ipv6_outside=made[0].ipv6_name,
                ipv6_router=str(outside.ipv6_router or ""),
            )
        yield inner


def served(ctx: Context) -> tuple[openstack.ApiOperation, ...]:
    """What emulated machines must finish before anyone creates networks."""
    if ctx.lab.patience <= 1 or not ctx.lab.has(Component.NEUTRON_DHCP):
        return ()
    networks = tuple(o.name for o in _fixtures(ctx) if isinstance(o, ProviderNetwork | SelfServiceNetwork))
    return (openstack.DhcpPlugged(networks),) if networks else ()


def _records(ctx: Context, services: tuple[Service, ...], stages: list[Stage]) -> dict[str, tuple[Item, ...]]:
    """The commands that verify an installation, run once for each state of the lab; their output is kept.

    Starting the client takes seconds, so one process reads all its commands.
    """
    stamp = hashlib.sha256("".join(s.digest(unwritten) for s in stages).encode()).hexdigest()[:16]
    made: dict[str, list[Operation]] = {}
    client: list[str] = []
    for check in (c for s in services for c in s.checks(ctx)):
        program, _, words = check.command.partition(" ")
        if program == "openstack":
            client.append(words)
        else:
            made.setdefault(check.node, []).append(Record(program, check.command, stamp))
    if client:
        lines = "\n".join(client)
        run = f". /root/admin-openrc; openstack >&2 <<'EOF'\n{lines}\nEOF\n"
        if not ctx.release.client_batch:
            run = ". /root/admin-openrc; " + "".join(f"openstack {words}; " for words in client)
        made.setdefault(ctx.identity_host, []).append(Record("openstack", _whole(run, len(client)), stamp))
    return {node: (Parallel(tuple(records)),) for node, records in made.items()}


def _whole(run: str, tables: int) -> str:
    """The client exits 0 even if its commands fail, so each must have printed a table, of three rules."""
    return f'said=$( {{ {run}}} 2>&1); echo "$said"; [ "$(echo "$said" | grep -c \'^+-\')" -ge {3 * tables} ]'


def _openrc(ctx: Context) -> tuple[Item, ...]:
    wanted = ctx.lab.fixtures
    return (
        File(
            "/root/admin-openrc",
            infra.openrc(ctx, "admin", "admin", mark("ADMIN_PASS"), ctx.service_auth_url),
            mode="0600",
            source="guide: keystone install, client environment scripts",
        ),
        File(
            "/root/demo-openrc",
            infra.openrc(ctx, wanted.project, wanted.user, mark("DEMO_PASS"), ctx.auth_url),
            mode="0600",
            source="guide: keystone install, client environment scripts",
        ),
    )


#: The stages before that a stage needs, where that is not just the one before it: tables need no identity service, and
#: configuration nothing that runs. On RDO's bases one web server has several services, so there each waits for all.
NEEDS = {
    "keystone": ("sql",),
    "catalog": ("keystone",),
    "configure": ("packages",),
    "databases": ("sql", "configure"),
    "services": ("infrastructure", "catalog", "databases"),
    "fixtures": ("compute",),
    "verify": ("settle", "fixtures"),
}


def plan(ctx: Context) -> Plan:
    """Return what ``up`` will do for a lab."""
    spec = ctx.lab
    found = present(ctx)
    services = tuple(s for s in found if s.name != "keystone")
    stages = [
        Stage("prepare", per_node(ctx, lambda n: (*redhat.prepare(ctx, n), *infra.prepare(ctx, n)))),
        Stage("packages", per_node(ctx, lambda n: _packages(ctx, n))),
        Stage("sql", per_node(ctx, lambda n: (*redhat.protect(ctx, n), *infra.sql(ctx, n)))),
        Stage("infrastructure", per_node(ctx, lambda n: infra.infrastructure(ctx, n))),
    ]
    if not spec.has(Component.KEYSTONE):
        return Plan(ctx, tuple(stages))

    parts = placed(ctx, services)
    hosts = tuple(n.name for n in spec.running(Component.NOVA_COMPUTE))
    mapper = ctx.host(Component.NOVA_CONTROLLER) if hosts else ""

    def settle(node: NodeSpec) -> tuple[Item, ...]:
        return (*(nova.map_hosts(ctx) if node.name == mapper else ()), *redhat.settle(ctx, node))

    stages += [
        keystone_stage(ctx),
        Stage("catalog", api=tuple(o for s in found for o in s.identity(ctx))),
        Stage(
            "configure",
            per_node(ctx, lambda n: configure(parts[n.name])),
            tuple(c for s in services for c in s.copies(ctx)),
        ),
        _databases(ctx, services),
        Stage(
            "services",
            per_node(ctx, lambda n: start(ctx, n, parts[n.name], "services")),
            api=tuple(o for s in services for o in s.objects(ctx)),
        ),
        Stage(
            "compute",
            per_node(ctx, lambda n: start(ctx, n, parts[n.name], "compute")),
            api=(openstack.ComputeHosts(hosts),) if hosts else (),
        ),
        Stage("settle", per_node(ctx, settle)),
        Stage("fixtures", {ctx.identity_host: _openrc(ctx)}, api=_fixtures(ctx)),
    ]
    answers = (*(o for s in found for o in s.verify(ctx)), *served(ctx))
    stages.append(Stage("verify", api=answers, after=_records(ctx, found, stages)))
    if ctx.base.redhat is None:
        stages = [replace(stage, needs=NEEDS.get(stage.name)) for stage in stages]
    return Plan(ctx, tuple(stages))
