"""gnocchi: telemetry 2 to 4 of docs/facts/telemetry.md, and the ceilometer install guide, which installs it."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Chain, Database, Directory, File, Operation
from labctl.operations.openstack import ApiOperation, ArchivePolicy, CatalogAnswers, CatalogEntry
from labctl.secret import mark
from labctl.services import httpd
from labctl.services.base import Chapter, Check, Context, Daemon, authtoken, http_ready, service_account, sync
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: ceilometer install, install and configure gnocchi; telemetry 4"
LAB = "labctl: one metricd and small files; telemetry 7"
#: Where it keeps measures.
STORAGE = "/var/lib/gnocchi"
#: The archive policy of every metric of a lab.
POLICY = "lab"
#: Both are needed: a processor's load is the rate of its counter (telemetry 4).
METHODS = ("mean", "rate:mean")
#: Seconds that a lab keeps its measures.
KEPT = 24 * 3600
#: Directories that metricd walks each time; 128 by default.
SACKS = 16


def policy(ctx: Context) -> ArchivePolicy:
    """How a lab keeps its measures: one point for each time that agents poll."""
    return ArchivePolicy(POLICY, METHODS, ctx.lab.telemetry_interval, KEPT)


def configuration(ctx: Context) -> File:
    """gnocchi.conf.

    Nothing coordinates: without ``coordination_url`` the indexer's database does, and the guide's Redis is not
    installed by it (telemetry 4).
    """
    conf = Ini("/etc/gnocchi/gnocchi.conf", group="gnocchi")
    conf.set("api", GUIDE, {"auth_mode": "keystone"})
    authtoken(ctx, conf, "gnocchi")
    conf.set("indexer", GUIDE, {"url": ctx.database_url("gnocchi", "gnocchi")})
    conf.set("storage", GUIDE, {"driver": "file", "file_basepath": STORAGE})
    if ctx.lab.has(Component.REDIS):
        url = f"redis://:{mark('REDIS_PASS', 'url')}@{ctx.host(Component.REDIS)}:6379/"
        conf.set("incoming", "topology: redis; gnocchi configuration", {"driver": "redis", "redis_url": url})
    delay = max(5, ctx.lab.telemetry_interval // 3)
    numbers = {"workers": ctx.lab.workers, "metric_processing_delay": delay, "metric_reporting_delay": -1}
    conf.set("metricd", LAB, numbers)
    return conf.file()


class Gnocchi(Chapter):
    name = "gnocchi"
    components = (Component.GNOCCHI,)
    words = {
        "en": ("Measures: gnocchi", "Keeps measures of resources over time, and aggregates them."),
        "ko": ("측정값: gnocchi", "자원의 측정값을 시계열로 보관하고 집계합니다."),
    }
    ports = {Component.GNOCCHI: ("8041/tcp",)}
    logs = ("gnocchi",)
    tempest = False

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("gnocchi", "gnocchi", mark("GNOCCHI_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        url = f"http://{ctx.host(Component.GNOCCHI)}:8041"
        # ceilometer looks for the service by this name
        return (*service_account(ctx, "gnocchi"), CatalogEntry("gnocchi", "metric", "Metric", url, ctx.lab.region))

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.GNOCCHI):
            return ()
        return (
            configuration(ctx),
            Directory(STORAGE, "gnocchi", "gnocchi", "0750"),
            *processes(ctx, "gnocchi-api"),
            *httpd.site(ctx, "gnocchi", 8041, "from gnocchi.rest.wsgi import application"),
        )

    def populate(self, ctx: Context) -> tuple[tuple[str, Chain], ...]:
        # as its own user: it makes the storage's directories
        command = sync("gnocchi upgrade", f"gnocchi-upgrade --sacks-number {SACKS}", "gnocchi")
        return ((ctx.host(Component.GNOCCHI), Chain("gnocchi tables and storage", (command,))),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.GNOCCHI):
            return ()
        return (Daemon("gnocchi-api", (http_ready("gnocchi", "http://127.0.0.1:8041/"),)), Daemon("gnocchi-metricd"))

    def objects(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (policy(ctx),)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (CatalogAnswers(ctx.lab.region, ("metric",)),)

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        return (Check(ctx.identity_host, "openstack metric archive-policy list"),)
