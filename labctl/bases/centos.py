"""What CentOS 7 and 8 share, with RDO's packages of OpenStack: facts sections 4, 6 and 8."""

from __future__ import annotations

from labctl.bases import debian, debian_pypi
from labctl.components import Component as C

#: The system's own daemons, and those that run inside Apache.
UNITS: dict[str, tuple[str, ...]] = {
    **{d: units for d, units in debian_pypi.UNITS.items() if d not in debian.SYSTEM_UNITS},
    "chrony": ("chronyd",),
    "mariadb": ("mariadb",),
    "rabbitmq": ("rabbitmq-server",),
    "memcached": ("memcached",),
    "redis": ("redis",),
    "etcd": ("etcd",),
    "libvirtd": ("libvirtd",),
    "openvswitch": ("openvswitch",),
    "iscsi-target": ("target",),
    "rsync": ("rsyncd",),
    "keystone": ("httpd",),
    "placement-api": ("httpd",),
    "nova-placement-api": ("httpd",),
    "apache": ("httpd",),
    "gnocchi-api": ("httpd",),
    "aodh-api": ("httpd",),
}

#: Packages whose name does not change between Python 2 and 3.
PACKAGES: dict[C, tuple[str, ...]] = {
    C.MARIADB: ("mariadb", "mariadb-server"),
    C.RABBITMQ: ("rabbitmq-server",),
    C.MEMCACHED: ("memcached",),
    C.REDIS: ("redis",),
    C.ETCD: ("etcd",),
    C.KEYSTONE: ("openstack-keystone", "httpd"),
    C.GLANCE: ("openstack-glance",),
    C.PLACEMENT: (),
    # not the metapackage openstack-nova, which installs libvirt on the controller (errata 3-30)
    C.NOVA_CONTROLLER: (
        "openstack-nova-api",
        "openstack-nova-conductor",
        "openstack-nova-novncproxy",
        "openstack-nova-scheduler",
    ),
    C.NOVA_COMPUTE: ("openstack-nova-compute",),
    C.NEUTRON_SERVER: ("openstack-neutron", "openstack-neutron-ml2"),
    C.NEUTRON_L2: (),
    C.NEUTRON_L3: ("openstack-neutron",),
    C.NEUTRON_DHCP: ("openstack-neutron",),
    C.NEUTRON_METADATA: ("openstack-neutron",),
    C.CINDER_CONTROLLER: ("openstack-cinder",),
    C.CINDER_VOLUME: ("lvm2", "device-mapper-persistent-data", "openstack-cinder", "targetcli"),
    C.SWIFT_PROXY: ("openstack-swift-proxy",),
    C.SWIFT_STORAGE: (
        "openstack-swift-account",
        "openstack-swift-container",
        "openstack-swift-object",
        "xfsprogs",
        "rsync",
    ),
    C.HEAT: ("openstack-heat-api", "openstack-heat-api-cfn", "openstack-heat-engine"),
    C.HORIZON: ("openstack-dashboard",),
    # the API runs in Apache: its launcher needs uWSGI, which no repository of a lab has (telemetry 3)
    C.GNOCCHI: ("gnocchi-api", "gnocchi-metricd"),
    C.CEILOMETER: ("openstack-ceilometer-central", "openstack-ceilometer-notification"),
    C.CEILOMETER_COMPUTE: ("openstack-ceilometer-compute",),
    C.AODH: ("openstack-aodh-api", "openstack-aodh-evaluator", "openstack-aodh-listener", "openstack-aodh-notifier"),
}

L2_PACKAGES: dict[str, tuple[str, ...]] = {
    "linuxbridge": ("openstack-neutron-linuxbridge", "ebtables", "ipset"),
    "openvswitch": ("openstack-neutron", "openstack-neutron-ml2", "openstack-neutron-openvswitch"),
}

#: Packages of daemons that not every release has (facts 6.3 and 6.4).
DAEMON_PACKAGES: dict[str, tuple[str, ...]] = {
    "placement-api": ("openstack-placement-api",),
    "nova-placement-api": ("openstack-nova-placement-api",),
    "nova-consoleauth": ("openstack-nova-console",),
}

#: System tools that a lab or its diagnosis needs; audit has ausearch, checkpolicy has checkmodule.
SYSTEM = (
    "openssh-server",
    "iproute",
    "iptables",
    "curl",
    "tcpdump",
    "psmisc",
    "chrony",
    "firewalld",
    "audit",
    "checkpolicy",
    "openstack-selinux",
)

PATHS = {
    "chrony.conf": "/etc/chrony.conf",
    "mariadb.cnf": "/etc/my.cnf.d/openstack.cnf",
    "memcached.sysconfig": "/etc/sysconfig/memcached",
    "redis.conf": "/etc/redis.conf",
    "etcd.conf": "/etc/etcd/etcd.conf",
    "plugin-ini": "/etc/neutron/plugin.ini",
    "novnc": "/usr/share/novnc",
    "httpd": "/etc/httpd/conf.d",
    "apache-group": "/etc/httpd/conf.d/00-labctl-dashboard.conf",
    "keystone-wsgi": "/usr/share/keystone/wsgi-keystone.conf",
    "horizon": "/etc/openstack-dashboard/labctl_settings.py",
    "horizon-main": "/etc/openstack-dashboard/local_settings",
    "horizon-policy": "/etc/openstack-dashboard",
    "horizon-url": "/dashboard",
}

#: Not set by openstack-selinux according to facts 8.1; harmless where it is.
BOOLEANS = ("httpd_can_network_connect_db",)
#: Set by hand in the notes; mitaka's openstack-selinux has no settings script for them.
SEED_BOOLEANS = (
    "httpd_use_openstack",
    "httpd_can_network_connect",
    "glance_api_can_network",
    "neutron_can_network",
    "haproxy_connect_any",
    "daemons_enable_cluster_mode",
    "swift_can_network",
    "rsync_full_access",
    "rsync_client",
    "virt_use_execmem",
)

#: Key file pattern -> fingerprint, public and compared (facts 2.5); those of the other SIGs are not known.
KEYS = {
    "RPM-GPG-KEY-CentOS-SIG-Cloud*": "736AF5116D9C40E2AF6B074BF9B9FEE7764429E6",
    "RPM-GPG-KEY-CentOS-SIG-Virtualization*": "A7C8E761309D2F1C92C50B627AEBBE8261E8806C",
}

UNWANTED_UNITS = ("postfix.service", "kdump.service", "tuned.service")
#: Installed by the packages above, enabled by some of them, and needed by no lab.
EXTRA_UNITS = ("libvirt-guests", "iscsi", "iscsid", "ovs-vswitchd", "ovsdb-server")


def python(version: str, *projects: str) -> tuple[str, ...]:
    """Names of Python packages: ``python-heatclient`` or ``python3-heatclient``."""
    return tuple(f"{version}-{project}" for project in projects)
