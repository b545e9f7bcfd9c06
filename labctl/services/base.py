"""What every service answers: the seven steps of an install guide's chapter, for one lab.

Database and grants; user, role, service and endpoints; packages; configuration files; populate the
database; enable and start; verify. The planner turns the answers into stages. A service never names an
operating system: packages, units and paths come from the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Command, Copy, Database, Operation
from labctl.operations.openstack import ApiOperation, Grant, User
from labctl.operations.populate import Invocation, Invocations, Populate
from labctl.secret import mark
from labctl.services.context import Context as Context
from labctl.topology.spec import NodeSpec

#: Where nodes keep what was done once for the lab.
STAMPS = "/var/lib/labctl/stamps"
UPGRADE = "guide: upgrade of each project; modern 6.1"
POPULATE = "guide: populate the database"


@dataclass(frozen=True)
class Daemon:
    """A daemon to start, by its project's own name, and its readiness tests.

    ``ready`` is (what, shell test). ``order`` groups daemons of a node: all of one order are started
    (in parallel) before the next. ``stage`` is the stage that starts it; ``before`` are commands of its node that
    need what earlier stages started.
    """

    name: str
    ready: tuple[tuple[str, str], ...] = ()
    order: int = 1
    stage: str = "services"
    before: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Check:
    """A command of a guide's "verify operation", on the node where it can run."""

    node: str
    command: str


class Service(Protocol):
    """One chapter of an install guide."""

    @property
    def name(self) -> str:
        """The project's name."""
        ...

    @property
    def components(self) -> tuple[Component, ...]:
        """The components whose daemons are this project's."""
        ...

    @property
    def words(self) -> Mapping[str, tuple[str, str]]:
        """Heading and purpose of its chapter, by language."""
        ...

    @property
    def ports(self) -> Mapping[Component, tuple[str, ...]]:
        """The ports its components listen on, as PORT/PROTOCOL (facts 5.3)."""
        ...

    @property
    def logs(self) -> tuple[str, ...]:
        """Its directories below /var/log."""
        ...

    @property
    def tempest(self) -> bool:
        """True if Tempest itself has tests of it, and an option of that name for its availability."""
        ...

    @property
    def user_roles(self) -> tuple[str, ...]:
        """Roles that a project's user needs for it, in addition to the release's member role."""
        ...

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        """Databases, accounts and grants, on the database node."""
        ...

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        """User, role, service and endpoints in keystone."""
        ...

    def packages(self, ctx: Context, node: NodeSpec) -> tuple[str, ...]:
        """Packages of this service on a node."""
        ...

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        """Configuration files and directories on a node."""
        ...

    def copies(self, ctx: Context) -> tuple[Copy, ...]:
        """Files that one node creates and others need, copied after the configuration."""
        ...

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        """(node, commands) that create the tables."""
        ...

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        """What to enable and start on a node."""
        ...

    def objects(self, ctx: Context) -> tuple[ApiOperation, ...]:
        """What its own API must have before daemons of the stage compute start."""
        ...

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        """The chapter's "verify operation", as checks of the APIs."""
        ...

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        """The chapter's "verify operation", as commands; their output is kept."""
        ...

    def upgrade_checks(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        """(node, command) that fails where its data are not ready for this release."""
        ...

    def migrations(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        """(node, command) of migrations that run while it serves, to be finished before the next release."""
        ...


class Chapter:
    """Empty default answers; a service overrides those that it has."""

    name: str
    components: tuple[Component, ...]
    words: Mapping[str, tuple[str, str]]
    ports: Mapping[Component, tuple[str, ...]]
    logs: tuple[str, ...]
    tempest: bool
    user_roles: tuple[str, ...] = ()
    #: on whose node its command NAME-status is asked before an upgrade; None where it has none
    status_on: Component | None = None

    def __init_subclass__(cls) -> None:
        for answer in ("name", "components", "words", "ports", "logs", "tempest"):
            if not hasattr(cls, answer):
                raise TypeError(f"the service {cls.__name__} does not define its {answer}")

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return ()

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return ()

    def packages(self, ctx: Context, node: NodeSpec) -> tuple[str, ...]:
        own = [p for c in self.components if node.has(c) for p in ctx.base.packages[c]]
        daemons = [p for d in self.daemons(ctx, node) for p in ctx.base.daemon_packages.get(d.name, ())]
        return (*own, *daemons)

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        return ()

    def copies(self, ctx: Context) -> tuple[Copy, ...]:
        return ()

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        return ()

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        return ()

    def objects(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return ()

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return ()

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        return ()

    def upgrade_checks(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        if self.status_on is None or not ctx.lab.has(self.status_on):
            return ()
        # 1 means warnings: the commands' documentation, for example docs.openstack.org/nova/latest/cli/nova-status.html
        run = f'su -s /bin/sh -c "{self.name}-status upgrade check" {self.name} || [ $? -eq 1 ]'
        return ((ctx.host(self.status_on), Command(f"upgrade check: {self.name}-status", run, source=UPGRADE)),)

    def migrations(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        return ()


def children(ctx: Context) -> int:
    """The number of worker processes of a daemon; 0, which makes the daemon serve requests itself, instead of one.

    Under eventlet a parent polls for exited children a hundred times a second (eventlet/green/os.py, waitpid),
    which takes 8 % of an emulated processor, and it is one more process.
    """
    return ctx.lab.workers if ctx.lab.workers > 1 else 0


def patient(ctx: Context, seconds: float) -> int:
    """A service's default timeout, scaled to how slow this lab's machines are.

    A request that times out is retried, which doubles the work of whatever is slow.

    :param seconds: the service's default timeout.
    """
    return round(seconds * ctx.lab.patience)


def stretch(ctx: Context, conf: Ini, section: str, limits: Mapping[str, float], service: str) -> None:
    """Extend a service's timeouts and intervals on emulated machines; elsewhere the defaults apply.

    :param limits: the service's defaults, in seconds.
    :param service: the service whose configuration reference lists them.
    """
    if ctx.lab.patience > 1:
        longer = {option: patient(ctx, seconds) for option, seconds in limits.items()}
        own = ", ".join(f"{option} {seconds:g} s" for option, seconds in limits.items())
        conf.set(section, f"labctl: emulated machines; defaults of {service}: {own}", longer)


def privileged(ctx: Context, conf: Ini, *sections: str) -> None:
    """Limit each of a service's privileged helpers to one thread, where two can deadlock.

    A helper's logging uses eventlet's locks (oslo.log, ``_fix_eventlet_logging``). When two threads contend for one,
    the second is never woken ("greenlet.error: cannot switch to a different thread" in the log), and its service waits
    for the answer forever: a layer-3 agent then silently stops creating routers.

    :param sections: sections of the helpers' options, ``cfg_section`` in oslo.privsep's ``PrivContext``.
    """
    if ctx.release.green_log_locks:
        for section in sections:
            conf.set(section, "oslo.privsep configuration; eventlet issue 432", {"thread_pool_size": 1})


def authtoken(ctx: Context, conf: Ini, user: str) -> None:
    """The ``[keystone_authtoken]`` block that all services share (facts 6.0)."""
    conf.set(
        "keystone_authtoken",
        "guide: keystone authentication block of every service; facts 6.0",
        {
            ctx.release.authtoken_public_uri: ctx.auth_url,
            "auth_url": ctx.service_auth_url,
            "memcached_servers": ctx.memcached,
            "auth_type": "password",
            "project_domain_name": "Default",
            "user_domain_name": "Default",
            "project_name": "service",
            "username": user,
            "password": mark(f"{user.upper()}_PASS"),
            "region_name": ctx.lab.region,
        },
    )


def password_auth(ctx: Context, user: str, *, region: bool = True) -> dict[str, str]:
    """Options of a keystoneauth ``password`` plug-in for a service user.

    :param region: with ``region_name``, only for sections that also describe an endpoint.
    """
    options = {
        "auth_type": "password",
        "auth_url": ctx.service_auth_url,
        "project_domain_name": "Default",
        "user_domain_name": "Default",
        "project_name": "service",
        "username": user,
        "password": mark(f"{user.upper()}_PASS"),
    }
    return {**options, "region_name": ctx.lab.region} if region else options


def messaging(ctx: Context, conf: Ini) -> None:
    """The message bus options, as the release spells them (facts 6.0)."""
    source = "guide: RabbitMQ message queue access; facts 6.0"
    stretch(ctx, conf, "DEFAULT", {"rpc_response_timeout": 60}, "oslo.messaging")
    if ctx.lab.patience > 1:
        # A client sends heartbeats by its own limit, the server closes by the shorter one, and a request was seen to
        # hang forever, likely in oslo.log 5.0.1's lock, which the sending thread takes. TCP keepalive finds dead peers.
        reason = "labctl: emulated machines; default of oslo.messaging: 60 s; Launchpad bug 1983863 (oslo.log)"
        conf.set("oslo_messaging_rabbit", reason, {"heartbeat_timeout_threshold": 0})
    if ctx.release.transport_url:
        conf.set("DEFAULT", source, {"transport_url": ctx.transport_url})
        # When the whole lab restarts, agents send requests before their server listens. Without its queue a request
        # is lost, and retried only after minutes: oslo.messaging waits 60 s, neutron-lib's back-off as long again.
        durable = "labctl: a lab that starts as a whole (restore, clone, repair); oslo.messaging, amqp_durable_queues"
        conf.set("oslo_messaging_rabbit", durable, {"amqp_durable_queues": True})
        return
    conf.set("DEFAULT", source, {"rpc_backend": "rabbit"})
    conf.set(
        "oslo_messaging_rabbit",
        source,
        {
            "rabbit_host": ctx.host(Component.RABBITMQ),
            "rabbit_userid": "openstack",
            "rabbit_password": mark("RABBIT_PASS"),
        },
    )


def counted(ctx: Context) -> bool:
    """True where telemetry reads what services tell about their resources."""
    return ctx.lab.has(Component.CEILOMETER)


def notifications(ctx: Context, conf: Ini, service: str) -> None:
    """Tell the message bus what happens to resources, where a notification agent reads it and the service can.

    Nobody else reads it, and the queue would grow without end (telemetry 4).
    """
    if counted(ctx) and service in ctx.release.notifying:
        source = "guide: ceilometer install, enable service meters; telemetry 4"
        conf.set("oslo_messaging_notifications", source, {"driver": "messagingv2"})


def stamp(title: str) -> str:
    """The file by which a node knows that a schema sync is done."""
    return f"{STAMPS}/sync-{title.replace(' ', '-')}"


def sync(title: str, run: str, user: str, source: str = POPULATE) -> Command:
    """What fills a service's store, run as its account and once per lab (recorded by a stamp on the node)."""
    done = stamp(title)
    typed = f'su -s /bin/sh -c "{run}" {user}'
    return Command(title, f"{typed} && touch {done}", unless=f"[ -e {done} ]", source=source, typed=typed)


def fills(title: str, words: str, user: str, source: str = POPULATE) -> Invocation:
    """A command of a service's program that fills its tables, once per lab, as the service's account."""
    return Invocation(title, words, user, stamp(title), source=source, fills=True)


def tables(ctx: Context, project: str, program: str, *each: Invocation, before: str = "") -> Invocations:
    """Make the tables of a project, whose database has its name: by its own program, or from the golden image."""
    return Invocations(f"{project} tables", program, each, filled=ctx.filled(project, project), before=before)


def http_ready(what: str, url: str) -> tuple[str, str]:
    """Readiness of an API: the URL answers with a status other than 5xx."""
    asked = f"code=$(curl -s -o /dev/null -m 10 -w '%{{http_code}}' {url}); echo \"HTTP $code\"; "
    return f"{what} answers", asked + "case $code in 000|5*) exit 1 ;; esac"


def service_account(ctx: Context, name: str) -> tuple[ApiOperation, ...]:
    """The service user with the role admin on the project service, and the role service where others ask for it."""
    roles = ("admin", "service") if name in ctx.release.service_users else ("admin",)
    return (User(name, mark(f"{name.upper()}_PASS")), *(Grant(role, name, "service") for role in roles))
