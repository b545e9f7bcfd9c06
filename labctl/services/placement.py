"""placement: facts 6.3 and the placement install guide."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Command, Database, File, Operation
from labctl.operations.openstack import ApiOperation, CatalogAnswers, CatalogEntry
from labctl.operations.populate import Populate
from labctl.releases.model import Placement as Where
from labctl.secret import mark
from labctl.services import httpd
from labctl.services.base import (
    Chapter,
    Check,
    Context,
    Daemon,
    authtoken,
    fills,
    http_ready,
    service_account,
    tables,
)
from labctl.services.upgrading import migration
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: placement install, install and configure components; facts 6.3"


def configuration(ctx: Context) -> File:
    """placement.conf."""
    conf = Ini("/etc/placement/placement.conf", group="placement")
    conf.set("placement_database", GUIDE, {"connection": ctx.database_url("placement", "placement")})
    conf.set("api", GUIDE, {"auth_strategy": "keystone"})
    authtoken(ctx, conf, "placement")
    return conf.file()


def moves(before: Context, ctx: Context) -> bool:
    """True if placement leaves nova between two releases of a lab."""
    places = (before.release.placement, ctx.release.placement)
    return ctx.lab.has(Component.PLACEMENT) and places == (Where.IN_NOVA, Where.PACKAGE)


#: What placement takes with it when it leaves nova.
TABLES = (
    *("allocations", "consumers", "inventories", "placement_aggregates", "projects", "resource_classes"),
    *("resource_providers", "resource_provider_aggregates", "resource_provider_traits", "traits", "users"),
)
#: Drops nova's own tables, and says which revision placement's have then.
_MOVE = """
tables=$(mysql -u root -N -e "select table_name from information_schema.tables where table_schema = 'placement'")
{
    echo 'SET foreign_key_checks = 0;'
    for table in $tables; do
        case ' KEPT ' in
        *" $table "*) ;;
        *) echo "DROP TABLE $table;" ;;
        esac
    done
    echo 'CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY);'
    echo "INSERT INTO alembic_version VALUES ('b4ed3a175331');"
} | mysql -u root placement
"""


def extracted() -> Command:
    """Make a database that nova kept placement's tables in, among its own, one of placement alone."""
    return Command(
        "placement's tables are its own",
        _MOVE.strip().replace("KEPT", " ".join(TABLES)),
        unless="mysql -u root -N -e 'select version_num from placement.alembic_version' 2>/dev/null | grep -q .",
        source="placement: Upgrading from Nova to Placement, tools/mysql-migrate-db.sh; modern 6.2",
    )


class Placement(Chapter):
    name = "placement"
    components = (Component.PLACEMENT,)
    words = {
        "en": ("Resources: placement", "Counts what the hypervisors have left; nova's scheduler asks it."),
        "ko": ("자원: placement", "하이퍼바이저에 남은 자원을 계산하며 nova 스케줄러가 조회합니다."),
    }
    ports = {Component.PLACEMENT: ("8778/tcp",)}
    logs = ("placement",)
    tempest = False
    status_on = Component.PLACEMENT

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("placement", "placement", mark("PLACEMENT_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        url = f"http://{ctx.host(Component.PLACEMENT)}:8778"
        return (
            *service_account(ctx, "placement"),
            CatalogEntry("placement", "placement", "Placement API", url, ctx.lab.region),
        )

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.PLACEMENT):
            return ()
        if ctx.release.placement is not Where.PACKAGE:  # nova's own API, which reads nova.conf
            own = httpd.placement(ctx, "/var/log/nova/nova-placement-api.log", "nova")
            return (*own, *processes(ctx, "nova-placement-api"))
        own = httpd.placement(ctx, "/var/log/placement/placement-api.log", "placement")
        return (configuration(ctx), *own, *processes(ctx, "placement-api"))

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        if ctx.release.placement is not Where.PACKAGE:
            return ()
        made = tables(ctx, "placement", "placement-manage", fills("placement db sync", "db sync", "placement"))
        return ((ctx.host(Component.PLACEMENT), made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.PLACEMENT):
            return ()
        daemon = "placement-api" if ctx.release.placement is Where.PACKAGE else "nova-placement-api"
        return (Daemon(daemon, (http_ready("placement", "http://127.0.0.1:8778/"),)),)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (CatalogAnswers(ctx.lab.region, ("placement",)),)

    def migrations(self, ctx: Context) -> tuple[tuple[str, Command], ...]:
        return migration(ctx, Component.PLACEMENT, "placement") if ctx.release.placement is Where.PACKAGE else ()

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        if ctx.release.placement is not Where.PACKAGE:
            return ()
        return (Check(ctx.host(Component.PLACEMENT), "placement-status upgrade check"),)
