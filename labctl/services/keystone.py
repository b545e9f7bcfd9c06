"""keystone: facts 6.1 and the keystone install guide of each release."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Command, Database, File, Operation, quote
from labctl.operations.openstack import ApiOperation, CatalogAnswers, Project, Role
from labctl.operations.populate import Invocation, Invocations, Populate
from labctl.secret import mark
from labctl.services import httpd
from labctl.services.base import STAMPS, Chapter, Check, Context, Daemon, fills, http_ready
from labctl.services.wsgi import processes
from labctl.topology.spec import NodeSpec

GUIDE = "guide: keystone install, install and configure components; facts 6.1"
#: Younger than the keys that labctl made.
BOOTSTRAPPED = f"{STAMPS}/keystone-bootstrap"


def configuration(ctx: Context) -> File:
    """keystone.conf."""
    conf = Ini("/etc/keystone/keystone.conf", group="keystone")
    conf.set(
        "DEFAULT",
        "Debian: keystone's own log file",
        {"log_dir": "/var/log/keystone", "log_file": "keystone.log"},
    )
    conf.set("database", GUIDE, {"connection": ctx.database_url("keystone", "keystone")})
    conf.set("token", GUIDE, {"provider": "fernet"})
    if ctx.release.password_hash_rounds:
        # 12 rounds take 0.23 s of processor time for each token that a service or a client requests
        source = "keystone configuration: rounds trade security for speed; a lab's passwords are 96 random bits"
        conf.set("identity", source, {"password_hash_rounds": 4})
    conf.set(
        "cache",
        "keystone admin guide, caching: tokens are validated on every API call",
        {"enabled": True, "backend": "dogpile.cache.memcached", "memcache_servers": ctx.memcached},
    )
    return conf.file()


def _keys(what: str) -> Invocation:
    words = f"{what}_setup --keystone-user keystone --keystone-group keystone"
    return Invocation(f"{what} keys", words, unless=f"[ -s /etc/keystone/{what}-keys/0 ]", source=GUIDE)


def _bootstrap(ctx: Context, password: str) -> Invocation:
    """The admin's account and the identity endpoints; needs the tables and the keys."""
    url = f"{ctx.auth_url}/v3/"
    admin = f"http://{ctx.identity_host}:{ctx.release.identity_admin_port}/v3/"
    rest = (
        f"--bootstrap-admin-url {admin} --bootstrap-internal-url {url} --bootstrap-public-url {url} "
        f"--bootstrap-region-id {ctx.lab.region}"
    )
    typed = f"keystone-manage bootstrap --bootstrap-password {password} {rest}"
    return Invocation("bootstrap", f"bootstrap {rest}", stamp=BOOTSTRAPPED, source=GUIDE, typed=typed)


def _log() -> Command:
    """keystone-manage also runs as root; whoever creates the log first owns it (troubleshooting A9)."""
    log = "/var/log/keystone/keystone.log"
    return Command(
        "keystone owns its log",
        f"[ -e {log} ] || install -o keystone -g keystone -m 0640 /dev/null {log}; chown keystone:keystone {log}",
        unless=f'[ "$(stat -c %U {log})" = keystone ]',
        source="troubleshooting A9",
    )


def _no_admin_token() -> Command:
    """There is no admin_token to accept, so its filter is removed from the pipelines (facts 6.1)."""
    paste = "/etc/keystone/keystone-paste.ini"
    return Command(
        "no admin_token in keystone's pipelines",
        f"sed -i '/^pipeline *=/s/ admin_token_auth//' {paste}",
        unless=f"! grep -q '^pipeline *=.* admin_token_auth' {paste}",
        source="guide: keystone install, verify operation; facts 6.1",
    )


class Keystone(Chapter):
    name = "keystone"
    components = (Component.KEYSTONE,)
    words = {
        "en": (
            "Identity: keystone",
            "Accounts, roles and the catalog of endpoints. The others cannot start before it answers.",
        ),
        "ko": (
            "인증: keystone",
            "계정, 역할, 엔드포인트 카탈로그를 관리합니다. 응답하기 전에는 다른 서비스를 시작할 수 없습니다.",
        ),
    }
    ports = {Component.KEYSTONE: ("123/udp", "5000/tcp")}
    logs = ("keystone",)
    tempest = True
    status_on = Component.KEYSTONE

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("keystone", "keystone", mark("KEYSTONE_DBPASS")),)

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(Component.KEYSTONE):
            return ()
        pipelines = (_no_admin_token(),) if ctx.release.admin_token_filter else ()
        return (configuration(ctx), *pipelines, *httpd.keystone(ctx), *processes(ctx, "keystone"), _log())

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        password = quote(mark("ADMIN_PASS"))
        made = Invocations(
            "keystone tables, keys and admin",
            "keystone-manage",
            (
                fills("keystone db_sync", "db_sync", "keystone"),
                _keys("fernet"),
                *((_keys("credential"),) if ctx.release.credential_keys else ()),
                _bootstrap(ctx, password),
            ),
            filled=ctx.filled("keystone", "keystone"),
            environment=f"OS_BOOTSTRAP_PASSWORD={password}",
        )
        return ((ctx.identity_host, made),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        if not node.has(Component.KEYSTONE):
            return ()
        return (Daemon("keystone", (http_ready("keystone", "http://127.0.0.1:5000/v3"),)),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        made: list[ApiOperation] = [Project("service", "Service Project")]
        if ctx.release.service_token and not ctx.release.service_role_bootstrapped:
            made.append(Role("service"))
        if not ctx.release.member_role_bootstrapped:
            made.append(Role(ctx.release.member_role))
        return tuple(made)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        return (CatalogAnswers(ctx.lab.region, ("identity",)),)

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        return (Check(ctx.identity_host, "openstack catalog list"),)
