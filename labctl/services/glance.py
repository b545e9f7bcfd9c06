"""glance: facts 6.2 and the glance install guide of each release."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Database, File, Operation
from labctl.operations.openstack import ApiOperation, CatalogAnswers, CatalogEntry
from labctl.operations.populate import Populate
from labctl.releases.model import PackageSource, Release
from labctl.secret import mark
from labctl.services.base import (
    Chapter,
    Check,
    Context,
    Daemon,
    authtoken,
    children,
    counted,
    fills,
    http_ready,
    messaging,
    notifications,
    service_account,
    tables,
)
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: glance install, install and configure components; facts 6.2"
DEFINITIONS = "glance-manage(1): db_load_metadefs; no install guide has it"


def _shared(ctx: Context, name: str) -> Ini:
    """Options shared by the API and the registry."""
    conf = Ini(f"/etc/glance/{name}", group="glance")
    conf.set("DEFAULT", "topology: options.workers", {"workers": children(ctx)})
    if counted(ctx):  # else it needs no message bus
        messaging(ctx, conf)
        notifications(ctx, conf, "glance")
    conf.set("database", GUIDE, {"connection": ctx.database_url("glance", "glance")})
    authtoken(ctx, conf, "glance")
    conf.set("paste_deploy", GUIDE, {"flavor": "keystone"})
    return conf


def configuration(ctx: Context) -> File:
    """glance-api.conf."""
    conf = _shared(ctx, "glance-api.conf")
    conf.set(
        "glance_store",
        GUIDE,
        {
            "stores": "file,http",
            "default_store": "file",
            "filesystem_store_datadir": "/var/lib/glance/images/",
        },
    )
    if lock := ctx.base.paths.get("glance-lock"):
        conf.set("oslo_concurrency", "Debian: as shipped", {"lock_path": lock})
    return conf.file()


def registry(ctx: Context) -> File:
    """glance-registry.conf, for releases whose guide still sets up the registry."""
    return _shared(ctx, "glance-registry.conf").file()


def definitions(release: Release, source: PackageSource) -> str:
    """The directory of metadata definitions: valid property names of images, flavors and volumes.

    Packages have it in /etc/glance, PyPI's glance in the ``etc`` of its environment.
    """
    return f"{release.environment if source is PackageSource.PYPI else ''}/etc/glance/metadefs/"


class Glance(Chapter):
    name = "glance"
    components = (Component.GLANCE,)
    words = {
        "en": ("Images: glance", "Keeps the disk images that servers boot."),
        "ko": ("이미지: glance", "서버가 부팅할 디스크 이미지를 보관합니다."),
    }
    ports = {Component.GLANCE: ("9292/tcp",)}
    logs = ("glance",)
    tempest = True
    status_on = Component.GLANCE

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("glance", "glance", mark("GLANCE_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        url = f"http://{ctx.host(Component.GLANCE)}:9292"
        return (
            *service_account(ctx, "glance"),
            CatalogEntry("glance", "image", "OpenStack Image", url, ctx.lab.region),
        )

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.GLANCE):
            return ()
        files = (configuration(ctx), registry(ctx)) if ctx.release.glance_registry else (configuration(ctx),)
        return (*files, *processes(ctx, "glance-api"))

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        path = definitions(ctx.release, ctx.base.source)
        made = tables(
            ctx,
            "glance",
            "glance-manage",
            fills("glance db_sync", "db_sync", "glance"),
            # an existing namespace is left as it is
            fills("glance metadata definitions", f"db_load_metadefs {path}", "glance", DEFINITIONS),
            # glance-manage only logs when it finds no file
            before=f"ls {path}*.json >/dev/null",
        )
        return ((ctx.host(Component.GLANCE), made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.GLANCE):
            return ()
        api = Daemon("glance-api", (http_ready("glance", "http://127.0.0.1:9292/healthcheck"),))
        if not ctx.release.glance_registry:
            return (api,)
        return (Daemon("glance-registry", (http_ready("glance registry", "http://127.0.0.1:9191/healthcheck"),)), api)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (CatalogAnswers(ctx.lab.region, ("image",)),)

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        return (Check(ctx.identity_host, "openstack image list"),)
