"""What every OpenStack service depends on: names, time, database, messages, cache (facts section 4)."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.bases.model import START_SECONDS
from labctl.components import Component
from labctl.operations.node import RELOAD, Command, Directory, File, Item, Operation, Parallel, Unit, Wait, quote
from labctl.secret import mark
from labctl.services.base import STAMPS, Context, patient
from labctl.topology.spec import LabSpec, NodeSpec

#: The ports its components listen on, as PORT/PROTOCOL (facts 5.3).
PORTS: Mapping[Component, tuple[str, ...]] = {
    Component.MARIADB: ("3306/tcp",),
    Component.RABBITMQ: ("5672/tcp",),
    Component.MEMCACHED: ("11211/tcp",),
    Component.REDIS: ("6379/tcp",),
    Component.ETCD: ("2379/tcp", "2380/tcp"),
}


def time_server(spec: LabSpec) -> NodeSpec:
    """The node the others synchronize their clocks with: the controller, which runs keystone."""
    for component in (Component.KEYSTONE, Component.MARIADB):
        if spec.has(component):
            return spec.host_of(component)
    return next(iter(spec.nodes.values()))


def chrony_conf(ctx: Context, node: NodeSpec) -> str:
    """chrony.conf: the time server serves the management network, the others follow it (facts 4.2)."""
    server = time_server(ctx.lab)
    lines = ["# Made by labctl; guide: Network Time Protocol (NTP)"]
    if node.name == server.name:
        lines += [f"allow {ctx.lab.management.cidr}", "local stratum 10"]
    else:
        lines += [f"server {server.name} iburst"]
    lines += ["driftfile /var/lib/chrony/drift", "makestep 1 -1"]
    return "\n".join(lines) + "\n"


def prepare(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Names, host name, kernel settings."""
    operations: list[Item] = [
        File("/etc/hosts", ctx.lab.hosts_file, source="guide: host networking, name resolution; facts 4.1"),
        Command(
            "host name resolves to the management address",
            f'[ "$(hostname)" = {node.name} ] && '
            f"[ \"$(getent hosts {node.name} | cut -d' ' -f1)\" = {ctx.lab.address(node)} ]",
            changes=False,
        ),
        File(ctx.base.paths["chrony.conf"], chrony_conf(ctx, node), source="facts 4.2"),
        Directory(STAMPS),
        *_slow_starts(ctx),
    ]
    return tuple(operations)


def _slow_starts(ctx: Context) -> tuple[Operation, ...]:
    """Time for units to start: a daemon that says when it is ready is otherwise killed before, over and over."""
    if ctx.lab.patience <= 1:
        return ()
    seconds = patient(ctx, START_SECONDS)
    source = f"labctl: emulated machines; elsewhere {START_SECONDS} s"
    manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    return (
        # after labctl.conf of the image
        File("/etc/systemd/system.conf.d/slow.conf", f"[Manager]\nDefaultTimeoutStartSec={seconds}\n", source=source),
        Command(
            f"units have {seconds} s to start",
            "systemctl daemon-reexec",
            unless=f'[ "$(busctl get-property {manager} DefaultTimeoutStartUSec)" = "t {seconds}000000" ]',
            source=source,
        ),
    )


#: The server's options on which tables depend (guide: SQL database; facts 4.3).
CHARACTERS = {"collation-server": "utf8_general_ci", "character-set-server": "utf8"}


def mariadb_cnf(ctx: Context, node: NodeSpec) -> str:
    """The guide's server file (facts 4.3), and memory sized for a lab instead of a dedicated host."""
    own = "".join(f"{option} = {value}\n" for option, value in ctx.base.mariadb.items())
    characters = "\n".join(f"{option} = {value}" for option, value in CHARACTERS.items())
    return f"""# Made by labctl; guide: SQL database; facts 4.3
[mysqld]
bind-address = 0.0.0.0
default-storage-engine = innodb
innodb_file_per_table = on
max_connections = 4096
{characters}
# a lab's database survives a killed machine, but need not wait for the disk at each commit
innodb_flush_log_at_trx_commit = 2
innodb_buffer_pool_size = 128M
skip-name-resolve = off
# a client that has not said who it is by then is sent away
connect_timeout = {patient(ctx, 10)}
{own}# {node.name} serves {ctx.lab.address(node)} and its own localhost
"""


def _mariadb(ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
    (unit,) = ctx.base.units["mariadb"]
    configuration = mariadb_cnf(ctx, node)
    limits = "[Service]\nLimitNOFILE=65535\n"
    return (
        File(ctx.base.paths["mariadb.cnf"], configuration, source="guide: SQL database; facts 4.3"),
        File(f"/etc/systemd/system/{unit}.service.d/limits.conf", limits, source="facts 4.3, B7"),
    )


def _memcached_conf(ctx: Context, node: NodeSpec) -> str:
    address = ctx.lab.address(node)
    return (
        "# Made by labctl; facts 4.5\n"
        "-d\nlogfile /var/log/memcached.log\n-m 64\n-p 11211\n-u memcache\n"
        f"-l 127.0.0.1\n-l {address}\n"
    )


def _memcached(ctx: Context, node: NodeSpec) -> File:
    """Its file: one option per line, or all in one shell variable. Addresses, as a name may not resolve at boot."""
    if path := ctx.base.paths.get("memcached.sysconfig"):
        text = (
            "# Made by labctl; facts 4.5, errata 1-12\n"
            'PORT="11211"\nUSER="memcached"\nMAXCONN="1024"\nCACHESIZE="64"\n'
            f'OPTIONS="-l 127.0.0.1,{ctx.lab.address(node)}"\n'
        )
        return File(path, text, source="guide: memcached; facts 4.5")
    return File(ctx.base.paths["memcached.conf"], _memcached_conf(ctx, node), source="facts 4.5")


def _redis(ctx: Context, node: NodeSpec) -> File:
    """Redis' file: only who knows the password may ask, and a restart loses nothing that was written."""
    text = (
        "# Made by labctl; gnocchi configuration: redis\n"
        f"bind 127.0.0.1 {ctx.lab.address(node)}\nport 6379\nrequirepass {mark('REDIS_PASS')}\n"
        "dir /var/lib/redis\nlogfile /var/log/redis/redis-server.log\nappendonly yes\n"
    )
    return File(ctx.base.paths["redis.conf"], text, "redis", "redis", "0640", "gnocchi configuration: redis")


def _etcd_conf(ctx: Context, node: NodeSpec) -> str:
    address = ctx.lab.address(node)
    values = {
        "ETCD_NAME": node.name,
        "ETCD_DATA_DIR": "/var/lib/etcd/default.etcd",
        "ETCD_INITIAL_CLUSTER_STATE": "new",
        "ETCD_INITIAL_CLUSTER_TOKEN": "etcd-cluster-01",
        "ETCD_INITIAL_CLUSTER": f"{node.name}=http://{address}:2380",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"http://{address}:2380",
        "ETCD_ADVERTISE_CLIENT_URLS": f"http://{address}:2379",
        "ETCD_LISTEN_PEER_URLS": f"http://{address}:2380",
        "ETCD_LISTEN_CLIENT_URLS": f"http://{address}:2379",
    }
    return "".join(f'{k}="{v}"\n' for k, v in values.items())


def _rabbitmq_user(ctx: Context) -> Command:
    password = quote(mark("RABBIT_PASS"))
    stamp = f"{STAMPS}/rabbitmq-user"
    begin, end = (f"printf '%s\\n' {password} | ", "") if ctx.base.rabbitmq_reads_password else ("", f" {password}")

    # without options: from 4.0 on it reads its input only when exactly the password is missing
    def add(begin: str, end: str) -> str:
        return (
            f"{{ {begin}rabbitmqctl add_user openstack{end} || "
            f"{begin}rabbitmqctl change_password openstack{end}; }} && "
            f"rabbitmqctl -q set_permissions openstack '.*' '.*' '.*' && touch {stamp}"
        )

    return Command(
        "rabbitmq user openstack",
        add(begin, end),
        unless=f"[ -e {stamp} ] && {begin}rabbitmqctl authenticate_user openstack{end}",
        typed=add("", f" {password}"),
        source="guide: message queue; facts 4.4",
    )


def _no_anonymous() -> Command:
    """A connection from the database's own node by its name would match ''@'HOST' before 'glance'@'%'."""
    count = "mysql -u root -N -e \"SELECT COUNT(*) FROM mysql.user WHERE User = ''\""
    return Command(
        "no anonymous accounts",
        "mysql -u root -e \"DELETE FROM mysql.user WHERE User = ''; FLUSH PRIVILEGES\"",
        unless=f'[ "$({count})" = 0 ]',
        source="guide: SQL database, secure the service; facts 4.3",
    )


class _Daemons:
    """Daemons of a node that are configured and then started side by side."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._files: list[Operation] = []
        self._starts: list[Operation] = []

    def begin(self, daemon: str, *inputs: Operation) -> None:
        """Start a daemon that reads these files."""
        self._files.extend(inputs)
        texts = tuple(i.content for i in inputs if isinstance(i, File))
        self._starts.extend(Unit(u, texts) for u in self._ctx.base.units[daemon])

    def items(self) -> tuple[Item, ...]:
        """What configures and starts them."""
        return (*self._files, RELOAD, Parallel(tuple(self._starts))) if self._starts else ()


def sql(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Database and cache of a node: all that the identity service and tables need."""
    daemons = _Daemons(ctx)
    ready: list[Item] = []
    if node.has(Component.MARIADB):
        daemons.begin("mariadb", *_mariadb(ctx, node))
        ready.append(Wait("database answers", "mysql -u root -e 'select 1'", tuple(ctx.base.units["mariadb"]), 60))
        if ctx.base.redhat:
            ready.append(_no_anonymous())
    if node.has(Component.MEMCACHED):
        daemons.begin("memcached", _memcached(ctx, node))
    return (*daemons.items(), *ready)


def infrastructure(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Message bus, time service and coordination of a node: what daemons of several nodes need."""
    daemons = _Daemons(ctx)
    after: list[Item] = []
    daemons.begin("chrony", File(ctx.base.paths["chrony.conf"], chrony_conf(ctx, node), source="facts 4.2"))
    if node.has(Component.RABBITMQ):
        tuning = (
            "# Made by labctl: no busy waiting, so that an idle lab leaves the cores to its guests\n"
            f'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="{ctx.base.erlang_quiet}"\n'
        )
        daemons.begin("rabbitmq", File("/etc/rabbitmq/rabbitmq-env.conf", tuning, source="RabbitMQ runtime guide"))
        after.append(_rabbitmq_user(ctx))
    if node.has(Component.REDIS):
        daemons.begin("redis", _redis(ctx, node))
    if node.has(Component.ETCD):
        daemons.begin("etcd", File(ctx.base.paths["etcd.conf"], _etcd_conf(ctx, node), source="guide: etcd; facts 4.6"))
    if node.name != time_server(ctx.lab).name:
        # after a burst that the server missed, the next sample would come only a minute later
        follows = "chronyc -n sources | grep -q '^\\^\\*' || { chronyc -n burst 2/4; sleep 2; false; }"
        after.append(Wait("clock follows the controller", follows, (), 60))
    return (*daemons.items(), *after)


def openrc(ctx: Context, project: str, user: str, password: str, auth_url: str) -> str:
    """The client environment script of the guides (facts 6.1)."""
    return (
        "export OS_PROJECT_DOMAIN_NAME=Default\n"
        "export OS_USER_DOMAIN_NAME=Default\n"
        f"export OS_PROJECT_NAME={quote(project)}\n"
        f"export OS_USERNAME={quote(user)}\n"
        f"export OS_PASSWORD={quote(password)}\n"
        f"export OS_AUTH_URL={auth_url}/v3\n"
        f"export OS_REGION_NAME={ctx.lab.region}\n"
        "export OS_IDENTITY_API_VERSION=3\n"
        "export OS_IMAGE_API_VERSION=2\n"
    )
