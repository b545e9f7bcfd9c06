"""ceilometer: telemetry 4 of docs/facts/telemetry.md, and the ceilometer install guide."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import RELOAD, File, Operation
from labctl.operations.openstack import ApiOperation, Grant, MeasuresArrive, Role
from labctl.services import gnocchi
from labctl.services.base import Chapter, Context, Daemon, messaging, password_auth, patient, service_account, sync
from labctl.topology.spec import NodeSpec

GUIDE = "guide: ceilometer install, install and configure components; telemetry 4"
LAB = "labctl: what a lab's tests ask for, and no more; telemetry 7"
EVENTS = "labctl: deleted resources end only where gnocchi gets the events; telemetry 4"
#: What the agent on a compute node asks libvirt about each guest.
GUEST_METERS = (
    "cpu",
    "memory.usage",
    "disk.device.read.bytes",
    "disk.device.write.bytes",
    "network.incoming.bytes",
    "network.outgoing.bytes",
)
#: What the central agent asks each API.
METERS = {
    Component.GLANCE: ("image.size",),
    Component.CINDER_CONTROLLER: ("volume.size",),
    Component.NEUTRON_L3: ("ip.floating",),
    Component.SWIFT_PROXY: ("storage.objects", "storage.objects.size"),
}
#: Role by which it reads the accounts of all projects in Swift.
RESELLER = "ResellerAdmin"


def configuration(ctx: Context) -> File:
    """ceilometer.conf, the same on every node."""
    conf = Ini("/etc/ceilometer/ceilometer.conf", group="ceilometer")
    messaging(ctx, conf)
    conf.set("service_credentials", GUIDE, {**password_auth(ctx, "ceilometer"), "interface": "internalURL"})
    conf.set("notification", "topology: options.workers", {"workers": ctx.lab.workers})
    return conf.file()


def _pipeline(kind: str, name: str, *publishers: str) -> str:
    """A file with one source of everything, and one sink."""
    lines = "".join(f"      - {publisher}\n" for publisher in publishers)
    return (
        f'sources:\n  - name: {name}_source\n    {kind}:\n      - "*"\n    sinks:\n      - {name}_sink\n'
        f"sinks:\n  - name: {name}_sink\n    publishers:\n{lines}"
    )


def _file(name: str, text: str, source: str) -> File:
    return File(f"/etc/ceilometer/{name}", f"# Made by labctl\n{text}", group="ceilometer", mode="0640", source=source)


def pipelines(ctx: Context) -> tuple[File, ...]:
    """Where samples and events go.

    The guide's ``archive_policy=low`` has no rates (telemetry 4). Ussuri's events go to panko, which nobody installs,
    and those of later releases to a queue that nobody reads.
    """
    events = ("gnocchi://", "notifier://?topic=alarm.all") if ctx.lab.has(Component.AODH) else ("gnocchi://",)
    return (
        _file("pipeline.yaml", _pipeline("meters", "meter", f"gnocchi://?archive_policy={gnocchi.POLICY}"), LAB),
        _file("event_pipeline.yaml", _pipeline("events", "event", *events), EVENTS),
    )


def polling(ctx: Context, node: NodeSpec) -> File:
    """polling.yaml: what the agents of a node measure, and how often."""
    sources = {
        "guests": GUEST_METERS if node.has(Component.CEILOMETER_COMPUTE) else (),
        "services": tuple(meter for component, meters in METERS.items() if ctx.lab.has(component) for meter in meters)
        if node.has(Component.CEILOMETER)
        else (),
    }
    text = "sources:\n"
    for name, meters in sources.items():
        if meters:
            listed = "".join(f"      - {meter}\n" for meter in meters)
            text += f"  - name: {name}\n    interval: {ctx.lab.telemetry_interval}\n    meters:\n{listed}"
    return _file("polling.yaml", text, "topology: options.telemetry_interval; telemetry 4")


#: Seconds that the notification agent waits for keystone when a lab starts as a whole.
START = 300


def waits(ctx: Context) -> tuple[Operation, ...]:
    """The notification agent starts once keystone and gnocchi answer.

    A publisher that it cannot load is left out for as long as it runs ("Unable to load publisher", _load_publishers in
    ceilometer/pipeline/base.py), so in a lab that starts as a whole (restore, clone, repair) no measure would arrive.
    """
    (unit,) = ctx.base.units["ceilometer-notification"]
    urls = (f"{ctx.auth_url}/v3", f"http://{ctx.host(Component.GNOCCHI)}:8041/")
    test = " && ".join(f"curl -sf -o /dev/null -m 10 {url}" for url in urls)
    seconds = patient(ctx, START)
    lines = f"ExecStartPre=/bin/sh -c 'until {test}; do sleep 1; done'\nTimeoutStartSec={seconds}\n"
    source = "labctl: a lab that starts as a whole; ceilometer/pipeline/base.py"
    return (
        File(f"/etc/systemd/system/{unit}.service.d/labctl.conf", f"[Service]\n{lines}", source=source),
        RELOAD,
    )


class Ceilometer(Chapter):
    name = "ceilometer"
    components = (Component.CEILOMETER, Component.CEILOMETER_COMPUTE)
    words = {
        "en": (
            "Telemetry: ceilometer",
            "Measures guests and resources: agents that poll, and one that reads the services' notifications.",
        ),
        "ko": (
            "텔레메트리: ceilometer",
            "서버와 자원을 측정합니다: 폴링 에이전트와 서비스의 알림(notification)을 읽는 에이전트.",
        ),
    }
    ports = {}
    logs = ("ceilometer",)
    tempest = False

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        account = service_account(ctx, "ceilometer")
        if not ctx.lab.has(Component.SWIFT_PROXY):
            return account
        return (*account, Role(RESELLER), Grant(RESELLER, "ceilometer", "service"))

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(*self.components):
            return ()
        own = (*pipelines(ctx), *waits(ctx)) if node.has(Component.CEILOMETER) else ()
        return (ctx.once(configuration), polling(ctx, node), *own)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        daemons: list[Daemon] = []
        if node.has(Component.CEILOMETER):
            # gnocchi's API must answer, and the command would ask for ever
            types = sync("ceilometer resource types", "ceilometer-upgrade --retry 10", "ceilometer", GUIDE)
            daemons += [
                Daemon("ceilometer-notification", before=(types,), stage="compute"),
                Daemon("ceilometer-central", stage="compute"),
            ]
        if node.has(Component.CEILOMETER_COMPUTE):
            daemons.append(Daemon("ceilometer-compute", order=2, stage="compute"))
        return tuple(daemons)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        if not ctx.lab.has(Component.GLANCE):
            return ()
        return (MeasuresArrive(ctx.lab.fixtures.image, "image.size", ctx.lab.telemetry_interval),)
