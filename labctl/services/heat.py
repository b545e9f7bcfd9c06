"""heat: facts 6.9 and the heat install guide of each release."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Database, File, Operation
from labctl.operations.openstack import (
    ApiOperation,
    CatalogAnswers,
    CatalogEntry,
    Domain,
    Grant,
    Role,
    ServicesUp,
    User,
)
from labctl.operations.populate import Populate
from labctl.secret import mark
from labctl.services.base import (
    Chapter,
    Check,
    Context,
    Daemon,
    authtoken,
    fills,
    http_ready,
    messaging,
    notifications,
    password_auth,
    service_account,
    stretch,
    tables,
)
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: heat install, install and configure components; facts 6.9"
#: Role of project users who create stacks; heat's own users get the other one.
OWNER_ROLE = "heat_stack_owner"
USER_ROLE = "heat_stack_user"


def configuration(ctx: Context) -> File:
    """heat.conf."""
    host, workers = ctx.host(Component.HEAT), ctx.lab.workers
    conf = Ini("/etc/heat/heat.conf", group="heat")
    messaging(ctx, conf)
    notifications(ctx, conf, "heat")
    stretch(ctx, conf, "DEFAULT", {"engine_life_check_timeout": 2}, "heat")
    conf.set(
        "DEFAULT",
        GUIDE,
        {
            "heat_metadata_server_url": f"http://{host}:8000",
            "heat_waitcondition_server_url": f"http://{host}:8000/v1/waitcondition",
            "stack_domain_admin": "heat_domain_admin",
            "stack_domain_admin_password": mark("HEAT_DOMAIN_PASS"),
            "stack_user_domain_name": "heat",
        },
    )
    conf.set("DEFAULT", "topology: options.workers", {"num_engine_workers": workers})
    conf.set(
        "DEFAULT",
        "heat.conf: a user's region, where a template names none",
        {"region_name_for_services": ctx.lab.region},
    )
    conf.set("database", GUIDE, {"connection": ctx.database_url("heat", "heat")})
    authtoken(ctx, conf, "heat")
    trustee = {k: v for k, v in password_auth(ctx, "heat").items() if not k.startswith(("project", "region"))}
    trustee = {ctx.release.heat_trustee_plugin if k == "auth_type" else k: v for k, v in trustee.items()}
    conf.set("trustee", GUIDE, trustee)
    conf.set("clients_keystone", GUIDE, {"auth_uri": ctx.auth_url})
    conf.set("ec2authtoken", GUIDE, {"auth_uri": f"{ctx.auth_url}/v3"})
    return conf.file()


class Heat(Chapter):
    name = "heat"
    components = (Component.HEAT,)
    words = {
        "en": ("Stacks: heat", "Makes what a template describes."),
        "ko": ("스택: heat", "템플릿에 적힌 자원을 만듭니다."),
    }
    ports = {Component.HEAT: ("8000/tcp", "8004/tcp")}
    logs = ("heat",)
    tempest = False
    status_on = Component.HEAT
    user_roles = (OWNER_ROLE,)

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("heat", "heat", mark("HEAT_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        host, region = ctx.host(Component.HEAT), ctx.lab.region
        return (
            *service_account(ctx, "heat"),
            CatalogEntry("heat", "orchestration", "Orchestration", f"http://{host}:8004/v1/%(tenant_id)s", region),
            CatalogEntry("heat-cfn", "cloudformation", "Orchestration", f"http://{host}:8000/v1", region),
            Domain("heat", "Stack projects and users"),
            User("heat_domain_admin", mark("HEAT_DOMAIN_PASS"), "heat"),
            Grant("admin", "heat_domain_admin", domain="heat"),
            Role(OWNER_ROLE),
            Role(USER_ROLE),
        )

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.HEAT):
            return ()
        return (configuration(ctx), *processes(ctx, "heat-api"), *processes(ctx, "heat-api-cfn"))

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        made = tables(ctx, "heat", "heat-manage", fills("heat db_sync", "db_sync", "heat"))
        return ((ctx.host(Component.HEAT), made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.HEAT):
            return ()
        return (
            Daemon("heat-engine"),
            Daemon("heat-api", (http_ready("heat", "http://127.0.0.1:8004/"),)),
            Daemon("heat-api-cfn", (http_ready("heat-cfn", "http://127.0.0.1:8000/"),)),
        )

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (
            CatalogAnswers(ctx.lab.region, ("orchestration", "cloudformation")),
            ServicesUp("orchestration", (("heat-engine", ctx.host(Component.HEAT)),)),
        )

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        return (Check(ctx.identity_host, "openstack orchestration service list"),)
