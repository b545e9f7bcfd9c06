"""What distribution packages add to the projects, as tables: accounts, directories, units, uWSGI files.

Names, commands and log files are those of RDO's packages (facts section 6), with two differences: configuration
files are named explicitly where RDO uses a ``--config-dir``, and keystone and placement, which run inside httpd
there, have their own units with the same WSGI scripts under uWSGI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from labctl.images import dashboard


@dataclass(frozen=True)
class Account:
    """A project's system user and group. The ids are those reserved by CentOS (setup, uidgid), or unused ones."""

    name: str
    number: int
    #: its configuration directory, if not /etc/NAME
    etc: str = ""
    #: supplementary groups, if they exist
    groups: tuple[str, ...] = ()
    #: owns its configuration directory
    owns_etc: bool = False
    #: below /var/lib/NAME
    directories: tuple[str, ...] = ()
    #: elsewhere
    also: tuple[str, ...] = ()
    #: may become root through NAME-rootwrap
    rootwrap: bool = False


ACCOUNTS = (
    Account("swift", 160, also=("/var/cache/swift", "/srv/node")),
    Account("glance", 161, directories=("images", "image-cache")),
    Account(
        "nova",
        162,
        groups=("libvirt", "kvm", "libvirt-qemu"),
        directories=("instances", "tmp", "buckets", "keys", "networks"),
        rootwrap=True,
    ),
    Account("keystone", 163, owns_etc=True, directories=("cache",)),
    Account("neutron", 164, directories=("tmp", "lock"), rootwrap=True),
    Account("cinder", 165, directories=("tmp", "volumes", "conversion", "mnt"), rootwrap=True),
    Account("placement", 168),
    Account("horizon", 169, etc=dashboard.DIRECTORY, also=(f"{dashboard.DIRECTORY}/local_settings.d",)),
    Account("heat", 187),
    Account("ceilometer", 166, groups=("nova", "libvirt"), directories=("tmp",)),
    Account("gnocchi", 183, directories=("tmp",)),
    Account("aodh", 184, directories=("tmp",)),
)


@dataclass(frozen=True)
class Daemon:
    """A daemon of a project; its first word is the command in the release's environment."""

    unit: str
    title: str
    user: str
    command: str
    #: below /var/log/USER; empty if it logs elsewhere
    log: str = ""
    #: notifies systemd when it is ready (oslo.service does)
    notifies: bool = False
    #: its child processes (dnsmasq, haproxy, keepalived) outlive its restart
    leaves_children: bool = False
    after: str = ""

    @property
    def needs(self) -> str:
        """A pattern below the environment of a release; a match means that the release has this daemon."""
        return f"bin/{self.command.split()[0]}"

    def render(self) -> str:
        """The unit file."""
        log = f" --log-file /var/log/{self.user}/{self.log}" if self.log else ""
        service = [
            *(("Type=notify", "NotifyAccess=all") if self.notifies else ("Type=simple",)),
            f"User={self.user}",
            f"ExecStart=/usr/bin/{self.command}{log}",
            *(("KillMode=process",) if self.leaves_children else ()),
        ]
        return unit(self.title, service, self.after)


@dataclass(frozen=True)
class Wsgi:
    """An API, or the dashboard, that RDO runs inside httpd."""

    unit: str
    title: str
    user: str
    #: a pattern below the environment of a release; a match means that the release has it
    needs: str
    ini: str
    port: int
    log: str
    #: a function of the environment that returns uWSGI's lines for the application
    served: Callable[[str], str] | None = None

    def render(self) -> str:
        """The unit file."""
        service = ["Type=notify", "NotifyAccess=all", f"User={self.user}", f"ExecStart=/usr/bin/uwsgi --ini {self.ini}"]
        if self.port < 1024:
            service.append("AmbientCapabilities=CAP_NET_BIND_SERVICE")
        return unit(self.title, service)

    def configuration(self, environment: str) -> str:
        """uWSGI's configuration; a recipe sets processes and threads in it."""
        served = self.served or (lambda place: f"wsgi-file = {place}/{self.needs}\n")
        return f"""# Made by labctl, after devstack's uWSGI files
[uwsgi]
http-socket = :{self.port}
virtualenv = {environment}
{served(environment)}logto = /var/log/{self.user}/{self.log}
disable-logging = true
processes = 1
threads = 4
master = true
enable-threads = true
lazy-apps = true
thunder-lock = true
need-app = true
no-orphans = true
buffer-size = 65535
# wait for requests that run, then end
die-on-term = true
hook-master-start = unix_signal:15 gracefully_kill_them_all
worker-reload-mercy = 15
"""


def unit(title: str, service: list[str], after: str = "") -> str:
    """A unit file: restarts on failure, with the file limit and locale that Python 3 needs."""
    lines = "\n".join(service)
    return f"""# Made by labctl, after RDO's unit
[Unit]
Description=OpenStack {title}
After=syslog.target network.target{" " + after if after else ""}

[Service]
{lines}
Restart=on-failure
LimitNOFILE=65536
Environment=LANG=C.UTF-8

[Install]
WantedBy=multi-user.target
"""


def _nova(name: str, title: str, arguments: str = "", *, notifies: bool = True, after: str = "") -> Daemon:
    command = f"nova-{name}{' ' + arguments if arguments else ''}"
    return Daemon(f"openstack-nova-{name}", f"Nova {title}", "nova", command, f"nova-{name}.log", notifies, after=after)


def _neutron(name: str, title: str, *files: str) -> Daemon:
    paths = ("/etc/neutron/neutron.conf", *(f"/etc/neutron/{file}" for file in files))
    options = " ".join(f"--config-file {path}" for path in paths)
    return Daemon(
        f"neutron-{name}",
        f"Neutron {title}",
        "neutron",
        f"neutron-{name} {options}",
        f"{name}.log",
        notifies=name == "server",
        leaves_children=True,
    )


def _swift(kind: str, *daemons: str) -> tuple[Daemon, ...]:
    conf = f"/etc/swift/{kind}-server.conf"
    title = f"Object Storage (swift) - {kind.title()}"
    server = Daemon(f"openstack-swift-{kind}", f"{title} Server", "swift", f"swift-{kind}-server {conf}")
    return (
        server,
        *(
            Daemon(f"openstack-swift-{kind}-{d}", f"{title} {d.title()}", "swift", f"swift-{kind}-{d} {conf}")
            for d in daemons
        ),
    )


def _served_by(api: Wsgi, module: str, *lines: str) -> Wsgi:
    """An API whose project has a module for it, and no script (from 2025.2 and 2026.1 on)."""
    text = "".join(f"{line}\n" for line in (f"module = {module}:application", *lines))
    needs = f"lib/python*/site-packages/{module.replace('.', '/')}.py"
    return replace(api, needs=needs, served=lambda place: text)


def _module(name: str, title: str, user: str, module: str, ini: str, port: int, log: str, *lines: str) -> Wsgi:
    """An API whose project had a command for it before."""
    return _served_by(Wsgi(name, title, user, "", ini, port, log), module, *lines)


KEYSTONE = Wsgi(
    "openstack-keystone",
    "Identity (keystone)",
    "keystone",
    "bin/keystone-wsgi-public",
    "/etc/keystone/keystone-uwsgi.ini",
    5000,
    "keystone-uwsgi.log",
)
PLACEMENT = Wsgi(
    "openstack-placement-api",
    "Placement API",
    "placement",
    "bin/placement-api",
    "/etc/placement/placement-api-uwsgi.ini",
    8778,
    "placement-api.log",
)
DAEMONS: tuple[Daemon | Wsgi, ...] = (
    KEYSTONE,
    PLACEMENT,
    Wsgi(
        "openstack-nova-placement-api",
        "Nova Placement API",
        "nova",
        "bin/nova-placement-api",
        "/etc/nova/nova-placement-api-uwsgi.ini",
        8778,
        "nova-placement-api.log",
    ),
    Wsgi(
        "openstack-dashboard",
        "Dashboard (horizon)",
        "horizon",
        "lib/python*/site-packages/openstack_dashboard/wsgi.py",
        f"{dashboard.DIRECTORY}/dashboard-uwsgi.ini",
        80,
        "horizon.log",
        dashboard.uwsgi,
    ),
    _served_by(KEYSTONE, "keystone.wsgi.api"),
    _served_by(PLACEMENT, "placement.wsgi.api"),
    _module(
        "openstack-nova-api",
        "Nova API Server",
        "nova",
        "nova.wsgi.osapi_compute",
        "/etc/nova/nova-api-uwsgi.ini",
        8774,
        "nova-api.log",
    ),
    _module(
        "openstack-nova-metadata-api",
        "Nova Metadata API Server",
        "nova",
        "nova.wsgi.metadata",
        "/etc/nova/nova-api-metadata-uwsgi.ini",
        8775,
        "nova-metadata-api.log",
    ),
    _module(
        "neutron-api",
        "Neutron API",
        "neutron",
        "neutron.wsgi.api",
        "/etc/neutron/neutron-api-uwsgi.ini",
        9696,
        "neutron-api.log",
        "env = OS_NEUTRON_CONFIG_FILES=/etc/neutron/neutron.conf;/etc/neutron/plugins/ml2/ml2_conf.ini",
        # all processes must know since when the server runs (release notes of 2025.1, add-7c25db94790c671c)
        "start-time = %t",
    ),
    *(
        _module(
            f"openstack-heat-{name}",
            f"Heat {name}",
            "heat",
            module,
            f"/etc/heat/heat-{name}-uwsgi.ini",
            port,
            f"heat-{name}.log",
        )
        for name, module, port in (("api", "heat.wsgi.api", 8004), ("api-cfn", "heat.wsgi.cfn", 8000))
    ),
    _module(
        "gnocchi-api",
        "Gnocchi API",
        "gnocchi",
        "gnocchi.rest.wsgi",
        "/etc/gnocchi/gnocchi-api-uwsgi.ini",
        8041,
        "gnocchi-api.log",
    ),
    Wsgi(
        "openstack-aodh-api",
        "Alarming (aodh) API",
        "aodh",
        "bin/aodh-api",
        "/etc/aodh/aodh-api-uwsgi.ini",
        8042,
        "aodh-api.log",
    ),
    Daemon("gnocchi-metricd", "Gnocchi metricd", "gnocchi", "gnocchi-metricd", "metricd.log"),
    Daemon(
        "openstack-ceilometer-notification",
        "Ceilometer Notification Agent",
        "ceilometer",
        "ceilometer-agent-notification",
        "agent-notification.log",
    ),
    *(
        Daemon(
            f"openstack-ceilometer-{name}",
            f"Ceilometer {name.title()} Agent",
            "ceilometer",
            f"ceilometer-polling --polling-namespaces {name}",
            f"{name}.log",
            after="libvirtd.service" if name == "compute" else "",
        )
        for name in ("central", "compute")
    ),
    *(
        Daemon(f"openstack-aodh-{name}", f"Alarming (aodh) {name.title()}", "aodh", f"aodh-{name}", f"{name}.log")
        for name in ("evaluator", "notifier", "listener")
    ),
    Daemon("openstack-glance-api", "Image (glance) API", "glance", "glance-api", "api.log"),
    Daemon("openstack-glance-registry", "Image (glance) Registry", "glance", "glance-registry", "registry.log"),
    _nova("api", "API Server"),
    _nova("conductor", "Conductor Server"),
    _nova("scheduler", "Scheduler Server"),
    _nova("consoleauth", "VNC console auth Server"),
    _nova("novncproxy", "NoVNC Proxy Server", "--web /usr/share/novnc/", notifies=False),
    _nova("compute", "Compute Server", after="libvirtd.service"),
    _neutron("server", "Server", "plugin.ini"),
    _neutron("rpc-server", "RPC Server", "plugins/ml2/ml2_conf.ini"),
    _neutron("periodic-workers", "Periodic Workers", "plugins/ml2/ml2_conf.ini"),
    _neutron("ovn-maintenance-worker", "OVN Maintenance Worker", "plugins/ml2/ml2_conf.ini"),
    _neutron("ovn-metadata-agent", "OVN Metadata Agent", "neutron_ovn_metadata_agent.ini"),
    _neutron("linuxbridge-agent", "Linux Bridge Agent", "plugins/ml2/linuxbridge_agent.ini"),
    _neutron("openvswitch-agent", "Open vSwitch Agent", "plugins/ml2/openvswitch_agent.ini"),
    _neutron("l3-agent", "Layer 3 Agent", "l3_agent.ini"),
    _neutron("dhcp-agent", "DHCP Agent", "dhcp_agent.ini"),
    _neutron("metadata-agent", "Metadata Agent", "metadata_agent.ini"),
    *(
        Daemon(f"openstack-cinder-{name}", f"Cinder {name.title()} Server", "cinder", f"cinder-{name}", f"{name}.log")
        for name in ("api", "scheduler", "volume")
    ),
    Daemon(
        "openstack-swift-proxy",
        "Object Storage (swift) - Proxy Server",
        "swift",
        "swift-proxy-server /etc/swift/proxy-server.conf",
    ),
    *_swift("account", "auditor", "reaper", "replicator"),
    *_swift("container", "auditor", "replicator", "updater"),
    *_swift("object", "auditor", "replicator", "updater"),
    *(
        Daemon(f"openstack-heat-{name}", f"Heat {name}", "heat", f"heat-{name}", f"heat-{name}.log")
        for name in ("api", "api-cfn", "engine")
    ),
)

#: Projects whose commands are on every user's PATH, besides those of the services.
COMMAND_PROJECTS = (
    "oslo.privsep",
    "oslo.rootwrap",
    "oslo.policy",
    "python-openstackclient",
    "python-keystoneclient",
    "python-glanceclient",
    "python-novaclient",
    "python-neutronclient",
    "python-cinderclient",
    "python-heatclient",
    "python-swiftclient",
    "gnocchiclient",
    "aodhclient",
    "rtslib-fb",
    "uWSGI",
)


def sudoers(name: str) -> str:
    """Lets a service's account run its rootwrap, as in RDO's and Debian's packages."""
    return (
        f"Defaults:{name} !requiretty\n\n"
        f"{name} ALL = (root) NOPASSWD: /usr/bin/{name}-rootwrap /etc/{name}/rootwrap.conf *\n"
        f"{name} ALL = (root) NOPASSWD: /usr/bin/{name}-rootwrap-daemon /etc/{name}/rootwrap.conf\n"
        f"{name} ALL = (root) NOPASSWD: /usr/bin/privsep-helper *\n"
    )
