"""Debian's packages of OpenStack: section 10 of docs/facts/releases.md for Debian 12, section 2 of
docs/facts/modern-releases.md for Debian 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from labctl.bases.model import Base, WsgiApi
from labctl.components import Component as C
from labctl.releases.model import PackageSource

#: Debian packages that components need, whatever the source of OpenStack.
PARTS: dict[C, tuple[str, ...]] = {
    C.MARIADB: ("mariadb-server",),
    C.RABBITMQ: ("rabbitmq-server",),
    C.MEMCACHED: ("memcached",),
    C.REDIS: ("redis-server",),
    C.ETCD: ("etcd-server", "etcd-client"),
    C.GLANCE: ("qemu-utils",),
    C.NOVA_CONTROLLER: ("novnc",),
    C.NOVA_COMPUTE: (
        "libvirt-daemon-system",
        "libvirt-clients",
        "qemu-system-x86",
        "qemu-utils",
        "genisoimage",  # for configuration drives; nova-compute only recommends it
        "open-iscsi",
    ),
    C.NEUTRON_L3: ("conntrack", "iputils-arping"),
    C.NEUTRON_DHCP: ("dnsmasq-base", "dnsmasq-utils"),
    C.NEUTRON_METADATA: ("haproxy",),
    C.CINDER_VOLUME: ("lvm2", "thin-provisioning-tools", "targetcli-fb", "python3-rtslib-fb", "qemu-utils"),
    C.SWIFT_STORAGE: ("xfsprogs", "rsync"),
}

#: Non-Python dependencies of Debian's OpenStack packages, which projects from PyPI need installed separately.
NEEDED: dict[C, tuple[str, ...]] = {
    C.NOVA_COMPUTE: ("bridge-utils", "dosfstools", "e2fsprogs", "kpartx", "parted", "qemu-block-extra"),
    C.NEUTRON_L2: ("bridge-utils",),
    C.NEUTRON_L3: ("haproxy", "keepalived", "radvd"),
    C.CINDER_VOLUME: ("cryptsetup-bin",),
}

#: Shared libraries for a non-Debian interpreter and for what pip builds, and MIME types for uWSGI.
LIBRARIES = (
    "libbz2-1.0",
    "libcrypt1",
    "liberasurecode1",
    "libexpat1",
    "libffi8",
    "liblzma5",
    "libncursesw6",
    "libnsl2",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libtirpc3",
    "libuuid1",
    "libvirt0",
    "zlib1g",
    "media-types",
)
OPENVSWITCH = ("openvswitch-switch",)

#: All Debian packages of nodes besides the system, whatever the source of OpenStack: one layer for every release.
SERVICES = tuple(
    dict.fromkeys(name for group in (*PARTS.values(), *NEEDED.values(), LIBRARIES, OPENVSWITCH) for name in group)
)

PACKAGES: dict[C, tuple[str, ...]] = {
    C.MARIADB: (*PARTS[C.MARIADB], "python3-pymysql"),
    C.RABBITMQ: PARTS[C.RABBITMQ],
    C.MEMCACHED: (*PARTS[C.MEMCACHED], "python3-memcache"),
    C.REDIS: PARTS[C.REDIS],
    C.ETCD: PARTS[C.ETCD],
    C.KEYSTONE: ("keystone",),
    C.GLANCE: ("glance-api", *PARTS[C.GLANCE]),
    C.PLACEMENT: ("placement-api",),
    C.NOVA_CONTROLLER: (
        "nova-api",
        "nova-conductor",
        "nova-scheduler",
        "nova-consoleproxy",
        *PARTS[C.NOVA_CONTROLLER],
    ),
    C.NOVA_COMPUTE: ("nova-compute-qemu", *PARTS[C.NOVA_COMPUTE]),
    C.NEUTRON_SERVER: ("neutron-server",),
    C.NEUTRON_L2: (),
    C.NEUTRON_L3: ("neutron-l3-agent", *PARTS[C.NEUTRON_L3]),
    C.NEUTRON_DHCP: ("neutron-dhcp-agent", *PARTS[C.NEUTRON_DHCP]),
    C.NEUTRON_METADATA: ("neutron-metadata-agent", *PARTS[C.NEUTRON_METADATA]),
    C.CINDER_CONTROLLER: ("cinder-api", "cinder-scheduler"),
    C.CINDER_VOLUME: ("cinder-volume", *PARTS[C.CINDER_VOLUME]),
    C.SWIFT_PROXY: (
        "swift",
        "swift-proxy",
        "python3-swiftclient",
        "python3-keystoneclient",
        "python3-keystonemiddleware",
    ),
    C.SWIFT_STORAGE: ("swift-account", "swift-container", "swift-object", *PARTS[C.SWIFT_STORAGE]),
    C.HEAT: ("heat-api", "heat-api-cfn", "heat-engine"),
    C.HORIZON: ("openstack-dashboard-apache",),
    C.GNOCCHI: ("gnocchi-api", "gnocchi-metricd", "python3-gnocchiclient", "python3-redis"),
    C.CEILOMETER: ("ceilometer-agent-central", "ceilometer-agent-notification"),
    C.CEILOMETER_COMPUTE: ("ceilometer-agent-compute", "python3-libvirt"),
    C.AODH: ("aodh-api", "aodh-evaluator", "aodh-notifier", "aodh-listener", "python3-aodhclient"),
}

#: Debian's own daemons.
SYSTEM_UNITS: dict[str, tuple[str, ...]] = {
    "chrony": ("chrony",),
    "mariadb": ("mariadb",),
    "rabbitmq": ("rabbitmq-server",),
    "memcached": ("memcached",),
    "redis": ("redis-server",),
    "etcd": ("etcd",),
    "libvirtd": ("libvirtd",),
    "openvswitch": ("openvswitch-switch",),
    "iscsi-target": ("rtslib-fb-targetctl",),
    "rsync": ("rsync",),
}

UNITS: dict[str, tuple[str, ...]] = {
    **SYSTEM_UNITS,
    "keystone": ("keystone",),
    "glance-api": ("glance-api",),
    "placement-api": ("placement-api",),
    "nova-api": ("nova-api", "nova-api-metadata"),
    "nova-conductor": ("nova-conductor",),
    "nova-scheduler": ("nova-scheduler",),
    "nova-novncproxy": ("nova-novncproxy",),
    "nova-compute": ("nova-compute",),
    "neutron-server": ("neutron-api", "neutron-rpc-server"),
    "neutron-linuxbridge-agent": ("neutron-linuxbridge-agent",),
    "neutron-openvswitch-agent": ("neutron-openvswitch-agent",),
    "neutron-l3-agent": ("neutron-l3-agent",),
    "neutron-dhcp-agent": ("neutron-dhcp-agent",),
    "neutron-metadata-agent": ("neutron-metadata-agent",),
    "cinder-api": ("cinder-api",),
    "cinder-scheduler": ("cinder-scheduler",),
    "cinder-volume": ("cinder-volume",),
    "swift-proxy": ("swift-proxy",),
    "swift-account": (
        "swift-account",
        "swift-account-auditor",
        "swift-account-reaper",
        "swift-account-replicator",
    ),
    "swift-container": (
        "swift-container",
        "swift-container-auditor",
        "swift-container-replicator",
        "swift-container-updater",
    ),
    "swift-object": (
        "swift-object",
        "swift-object-auditor",
        "swift-object-replicator",
        "swift-object-updater",
    ),
    "heat-api": ("heat-api",),
    "heat-api-cfn": ("heat-api-cfn",),
    "heat-engine": ("heat-engine",),
    "apache": ("apache2",),
    "gnocchi-api": ("gnocchi-api",),
    "gnocchi-metricd": ("gnocchi-metricd",),
    "ceilometer-central": ("ceilometer-agent-central",),
    "ceilometer-notification": ("ceilometer-agent-notification",),
    "ceilometer-compute": ("ceilometer-agent-compute",),
    "aodh-api": ("aodh-api",),
    "aodh-evaluator": ("aodh-evaluator",),
    "aodh-notifier": ("aodh-notifier",),
    "aodh-listener": ("aodh-listener",),
}

#: Installed with the units above, enabled by their packages, and needed by no lab.
SYSTEM_EXTRA_UNITS = (
    "epmd",
    "haproxy",
    "keepalived",
    "radvd",
    "iscsid",
    "open-iscsi",
    "libvirt-guests",
    "virtlogd",
    "openvswitch-switch",
    "ovs-vswitchd",
    "ovsdb-server",
)
EXTRA_UNITS = (
    *SYSTEM_EXTRA_UNITS,
    "nova-serialproxy",
    "nova-spicehtml5proxy",
    "neutron-metering-agent",
    "swift-container-reconciler",
    "swift-container-sharder",
    "swift-container-sync",
    "swift-object-reconstructor",
)

SYSTEM = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "nftables",
    "iptables",
    "ebtables",
    "ipset",
    "kmod",
    "ca-certificates",
    "python3",
    "sudo",
    "less",
    "vim-tiny",
    "procps",
    "psmisc",
    "tcpdump",
    "curl",
    "chrony",
)

COMMON = (
    *SYSTEM,
    "python3-openstackclient",
    "python3-heatclient",
    "python3-swiftclient",
    "python3-osc-placement",
)

SYSTEM_PATHS = {
    "chrony.conf": "/etc/chrony/chrony.conf",
    "mariadb.cnf": "/etc/mysql/mariadb.conf.d/99-openstack.cnf",
    "memcached.conf": "/etc/memcached.conf",
    "redis.conf": "/etc/redis/redis.conf",
    "etcd.conf": "/etc/default/etcd",
    "ebtables-link": "/etc/alternatives/ebtables",
    "glance-lock": "/var/lock/glance",
    "libvirt-cgroups": "/etc/libvirt/qemu.conf",
    "horizon": "/etc/openstack-dashboard/local_settings.d/_9000_labctl.py",
    "novnc": "/usr/share/novnc",
}

PATHS = {
    **SYSTEM_PATHS,
    "console-proxy": "/etc/default/nova-consoleproxy",
    "nova-compute.conf": "/etc/nova/nova-compute.conf",
    "apache-ssl-site": "/etc/apache2/sites-enabled/default-ssl.conf",
    "apache-group": "/etc/apache2/conf-enabled/labctl-group.conf",
    "horizon-url": "/horizon",
}

# oslo.log 5.0.1 takes logging's locks from eventlet as soon as eventlet is imported (_fix_eventlet_logging), so even
# keystone, placement and glance must not log from threads.
WSGI = (
    WsgiApi("keystone", "/etc/keystone/keystone-uwsgi.ini", threads=False, busy=True),
    WsgiApi("placement-api", "/etc/placement/placement-api-uwsgi.ini", threads=False),
    WsgiApi("nova-api", "/etc/nova/nova-api-uwsgi.ini", threads=False, busy=True),
    WsgiApi("nova-api", "/etc/nova/nova-api-metadata-uwsgi.ini", threads=False),
    WsgiApi("neutron-server", "/etc/neutron/neutron-api-uwsgi.ini", threads=False, busy=True),
    WsgiApi("glance-api", "/etc/glance/glance-api-uwsgi.ini", threads=False, busy=True),
    WsgiApi("cinder-api", "/etc/cinder/cinder-api-uwsgi.ini", threads=False),
    WsgiApi("heat-api", "/etc/heat/heat-api-uwsgi.ini", threads=False),
    WsgiApi("heat-api-cfn", "/etc/heat/heat-api-cfn-uwsgi.ini", threads=False),
    WsgiApi("gnocchi-api", "/etc/gnocchi/gnocchi-api-uwsgi.ini", threads=False),
    WsgiApi("aodh-api", "/etc/aodh/aodh-api-uwsgi.ini", threads=False),
)

UNWANTED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_reap.service",
    "e2scrub_all.timer",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "man-db.timer",
    "logrotate.timer",
    "phpsessionclean.timer",
    "rsyslog.service",
    "getty@tty1.service",
    "console-getty.service",
    "systemd-timesyncd.service",
    "nftables.service",
    "lvm2-monitor.service",
    "lvm2-lvmpolld.socket",
    "systemd-networkd-wait-online.service",
)


def openstack_units(units: Mapping[str, tuple[str, ...]], extra: tuple[str, ...]) -> tuple[str, ...]:
    """Every unit that must not start before it is configured; chrony may run from the start."""
    return tuple(dict.fromkeys([u for names in units.values() for u in names if u != "chrony"] + list(extra)))


#: Debian's own units among them; a lab's nodes start what their components need.
SERVICE_UNITS = openstack_units(SYSTEM_UNITS, SYSTEM_EXTRA_UNITS)

#: What costs most when forty Python daemons start on two cores, with what follows 0.5 s of processor time each:
#: eventlet's own resolver, which nova disables itself (nova/monkey_patch.py) and a lab's hosts files do not need.
ENVIRONMENT = {"EVENTLET_NO_GREENDNS": "yes"}
#: eventlet imports distutils, which setuptools replaces with its own, which reads the metadata of 400 packages. From
#: Python 3.12 on there is no other.
OWN_DISTUTILS = {"SETUPTOOLS_USE_DISTUTILS": "stdlib"}

#: Packages of what only some labs have.
DAEMON_PACKAGES = {"ceilometermiddleware": ("python3-ceilometermiddleware",)}

DEBIAN12 = Base(
    name="debian12",
    title="Debian 12",
    family="debian",
    source=PackageSource.DEBIAN,
    backing_format=True,
    suite="bookworm",
    common_packages=COMMON,
    system_packages=SYSTEM,
    service_packages=SERVICES,
    service_units=SERVICE_UNITS,
    environment={**OWN_DISTUTILS, **ENVIRONMENT},
    packages=PACKAGES,
    l2_packages={
        "linuxbridge": ("neutron-linuxbridge-agent",),
        "openvswitch": ("neutron-openvswitch-agent", *OPENVSWITCH),
    },
    units=UNITS,
    paths=PATHS,
    wsgi=WSGI,
    daemon_packages=DAEMON_PACKAGES,
    openstack_units=openstack_units(UNITS, EXTRA_UNITS),
    unwanted_units=UNWANTED_UNITS,
)

#: Open Virtual Network: its databases and northd, and what runs beside Open vSwitch on each chassis.
OVN_CENTRAL = ("ovn-central",)
OVN_HOST = ("ovn-host", *OPENVSWITCH)
OVN_UNITS: dict[str, tuple[str, ...]] = {
    # the last one starts the others at boot
    "ovn-northd": ("ovn-northd", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb", "ovn-central"),
    "ovn-controller": ("ovn-controller", "ovn-host"),
}

#: Neutron's daemons beside OVN, the same whatever the source of OpenStack.
NEUTRON_OVN_UNITS = {
    name: (name,) for name in ("neutron-api", "neutron-ovn-maintenance-worker", "neutron-ovn-metadata-agent")
}

_UNITS13 = {**UNITS, **OVN_UNITS, **NEUTRON_OVN_UNITS}

#: Libraries whose packages have other names since their times have 64 bits.
_RENAMED = {name: f"{name}t64" for name in ("libssl3", "libreadline8", "libtirpc3")}


def in_trixie(names: tuple[str, ...]) -> tuple[str, ...]:
    """Packages of bookworm by their names in trixie, each once."""
    return tuple(dict.fromkeys(_RENAMED.get(name, name) for name in names))


DEBIAN13 = replace(
    DEBIAN12,
    name="debian13",
    title="Debian 13",
    suite="trixie",
    service_packages=in_trixie((*SERVICES, *OVN_CENTRAL, *OVN_HOST)),
    service_units=openstack_units({**SYSTEM_UNITS, **OVN_UNITS}, SYSTEM_EXTRA_UNITS),
    l2_packages={
        "openvswitch": ("neutron-openvswitch-agent", *OPENVSWITCH),
        "ovn": ("neutron-ovn-metadata-agent", *OVN_HOST),
    },
    environment=ENVIRONMENT,
    units_start_services=True,
    userspace_tunnels=True,
    # MariaDB 11.6.2 and later refuse with error 1020 what older ones let wait (Launchpad bug 2116186)
    mariadb={
        "innodb_snapshot_isolation": "OFF",
        # from 11.5 on a table of utf8 gets another collation than the older ones that it refers to, which is an error
        # (MDEV-25829; a lab that comes from Debian 12 has such tables)
        "character_set_collations": "utf8mb3=utf8mb3_general_ci",
    },
    daemon_packages={
        **DAEMON_PACKAGES,
        "neutron-ovn-maintenance-worker": ("neutron-ovn-maintenance-worker",),
        "ovn-northd": OVN_CENTRAL,
    },
    units=_UNITS13,
    paths={
        **PATHS,
        "ovn-central": "/etc/default/ovn-central",
        "ovn-maintenance-script": "/etc/init.d/neutron-ovn-maintenance-worker",
    },
    openstack_units=openstack_units(_UNITS13, EXTRA_UNITS),
)
