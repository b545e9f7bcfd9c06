"""aodh: telemetry 4 of docs/facts/telemetry.md, and the aodh install guide."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Database, File, Operation
from labctl.operations.openstack import ApiOperation, CatalogAnswers, CatalogEntry
from labctl.operations.populate import Populate
from labctl.secret import mark
from labctl.services import httpd
from labctl.services.base import (
    Chapter,
    Context,
    Daemon,
    authtoken,
    fills,
    http_ready,
    messaging,
    password_auth,
    service_account,
    tables,
)
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: aodh install, install and configure components; telemetry 4"
LAB = "labctl: alarms follow the lab's measures; telemetry 4"


def configuration(ctx: Context) -> File:
    """aodh.conf.

    An evaluation asks for granularity times (periods + 1) and this lag: what metricd has not worked through by then
    is missing, and the alarm has "insufficient data".
    """
    conf = Ini("/etc/aodh/aodh.conf", group="aodh")
    messaging(ctx, conf)
    interval = ctx.lab.telemetry_interval
    section = ctx.release.aodh_evaluator_section
    conf.set(section, LAB, {"evaluation_interval": max(5, interval // 2)})
    conf.set("DEFAULT", LAB, {"additional_ingestion_lag": 2 * interval})
    conf.set("database", GUIDE, {"connection": ctx.database_url("aodh", "aodh")})
    authtoken(ctx, conf, "aodh")
    conf.set("service_credentials", GUIDE, {**password_auth(ctx, "aodh"), "interface": "internalURL"})
    return conf.file()


class Aodh(Chapter):
    name = "aodh"
    components = (Component.AODH,)
    words = {
        "en": ("Alarms: aodh", "Compares measures with thresholds, and calls what an alarm names."),
        "ko": ("알람: aodh", "측정값을 임계값과 비교하고 알람에 지정된 동작을 호출합니다."),
    }
    ports = {Component.AODH: ("8042/tcp",)}
    logs = ("aodh",)
    tempest = False

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("aodh", "aodh", mark("AODH_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        url = f"http://{ctx.host(Component.AODH)}:8042"
        return (*service_account(ctx, "aodh"), CatalogEntry("aodh", "alarming", "Telemetry", url, ctx.lab.region))

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.AODH):
            return ()
        # RDO's own unit would listen on 8000, which is heat's (telemetry 3)
        application = "from aodh.api.app import build_wsgi_app\n\napplication = build_wsgi_app(argv=[])"
        return (configuration(ctx), *processes(ctx, "aodh-api"), *httpd.site(ctx, "aodh", 8042, application))

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        made = tables(ctx, "aodh", "aodh-dbsync", fills("aodh dbsync", "", "aodh"))
        return ((ctx.host(Component.AODH), made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.AODH):
            return ()
        workers = tuple(Daemon(f"aodh-{name}") for name in ("evaluator", "notifier", "listener"))
        return (Daemon("aodh-api", (http_ready("aodh", "http://127.0.0.1:8042/"),)), *workers)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (CatalogAnswers(ctx.lab.region, ("alarming",)),)
