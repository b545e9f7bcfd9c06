"""OpenStack from the Python Package Index on Debian, with the unit names of the CentOS packages.

Debian provides everything that is not OpenStack; the projects are in ``/opt/openstack/RELEASE`` of the image
(labctl/images/pypi.py), and their units have the names used in facts section 6 and the notes.
"""

from __future__ import annotations

from dataclasses import replace

from labctl.bases import debian
from labctl.bases.model import Base, WsgiApi
from labctl.components import Component as C
from labctl.releases.model import PackageSource


def _swift(kind: str, *daemons: str) -> tuple[str, ...]:
    unit = f"openstack-swift-{kind}"
    return (unit, *(f"{unit}-{daemon}" for daemon in daemons))


UNITS: dict[str, tuple[str, ...]] = {
    **debian.SYSTEM_UNITS,
    "keystone": ("openstack-keystone",),
    "glance-api": ("openstack-glance-api",),
    "glance-registry": ("openstack-glance-registry",),
    "placement-api": ("openstack-placement-api",),
    "nova-placement-api": ("openstack-nova-placement-api",),
    "nova-api": ("openstack-nova-api",),
    "nova-conductor": ("openstack-nova-conductor",),
    "nova-scheduler": ("openstack-nova-scheduler",),
    "nova-consoleauth": ("openstack-nova-consoleauth",),
    "nova-novncproxy": ("openstack-nova-novncproxy",),
    "nova-compute": ("openstack-nova-compute",),
    "neutron-server": ("neutron-server",),
    "neutron-linuxbridge-agent": ("neutron-linuxbridge-agent",),
    "neutron-openvswitch-agent": ("neutron-openvswitch-agent",),
    "neutron-l3-agent": ("neutron-l3-agent",),
    "neutron-dhcp-agent": ("neutron-dhcp-agent",),
    "neutron-metadata-agent": ("neutron-metadata-agent",),
    "cinder-api": ("openstack-cinder-api",),
    "cinder-scheduler": ("openstack-cinder-scheduler",),
    "cinder-volume": ("openstack-cinder-volume",),
    "swift-proxy": ("openstack-swift-proxy",),
    "swift-account": _swift("account", "auditor", "reaper", "replicator"),
    "swift-container": _swift("container", "auditor", "replicator", "updater"),
    "swift-object": _swift("object", "auditor", "replicator", "updater"),
    "heat-api": ("openstack-heat-api",),
    "heat-api-cfn": ("openstack-heat-api-cfn",),
    "heat-engine": ("openstack-heat-engine",),
    "apache": ("openstack-dashboard",),
    "gnocchi-api": ("gnocchi-api",),
    "gnocchi-metricd": ("gnocchi-metricd",),
    **{f"ceilometer-{name}": (f"openstack-ceilometer-{name}",) for name in ("central", "notification", "compute")},
    **{f"aodh-{name}": (f"openstack-aodh-{name}",) for name in ("api", "evaluator", "notifier", "listener")},
}

#: Where Debian's rtslib-fb keeps iSCSI targets, which its unit restores after a boot.
TARGETS = "/etc/rtslib-fb-target"

DEBIAN12_PYPI = Base(
    name=debian.DEBIAN12.name,
    title=f"{debian.DEBIAN12.title}, OpenStack from PyPI",
    family=debian.DEBIAN12.family,
    source=PackageSource.PYPI,
    backing_format=True,
    suite=debian.DEBIAN12.suite,
    system_packages=debian.SYSTEM,
    service_packages=debian.SERVICES,
    service_units=debian.SERVICE_UNITS,
    common_packages=(*debian.SYSTEM, *debian.LIBRARIES),
    environment=debian.DEBIAN12.environment,
    packages={c: (*debian.PARTS.get(c, ()), *debian.NEEDED.get(c, ())) for c in C},
    l2_packages={"linuxbridge": (), "openvswitch": debian.OPENVSWITCH},
    units=UNITS,
    paths={
        **debian.SYSTEM_PATHS,
        "plugin-ini": "/etc/neutron/plugin.ini",
        "horizon-url": "/dashboard",
        "targets": TARGETS,
    },
    # the other APIs are the projects' own eventlet servers, as in RDO's packages
    wsgi=(
        WsgiApi("keystone", "/etc/keystone/keystone-uwsgi.ini", threads=True),
        WsgiApi("placement-api", "/etc/placement/placement-api-uwsgi.ini", threads=True),
        WsgiApi("nova-placement-api", "/etc/nova/nova-placement-api-uwsgi.ini", threads=True),
        WsgiApi("gnocchi-api", "/etc/gnocchi/gnocchi-api-uwsgi.ini", threads=True),
        WsgiApi("aodh-api", "/etc/aodh/aodh-api-uwsgi.ini", threads=True),
    ),
    openstack_units=debian.openstack_units(UNITS, debian.SYSTEM_EXTRA_UNITS),
    unwanted_units=debian.UNWANTED_UNITS,
)

_UNITS13 = {
    **UNITS,
    **debian.OVN_UNITS,
    **debian.NEUTRON_OVN_UNITS,
    "nova-api": ("openstack-nova-api", "openstack-nova-metadata-api"),
    "neutron-server": ("neutron-api", "neutron-rpc-server", "neutron-periodic-workers"),
}

DEBIAN13_PYPI = replace(
    DEBIAN12_PYPI,
    name=debian.DEBIAN13.name,
    title=f"{debian.DEBIAN13.title}, OpenStack from PyPI",
    suite=debian.DEBIAN13.suite,
    service_packages=debian.DEBIAN13.service_packages,
    service_units=debian.DEBIAN13.service_units,
    common_packages=(*debian.SYSTEM, *debian.in_trixie(debian.LIBRARIES)),
    environment=debian.DEBIAN13.environment,
    userspace_tunnels=debian.DEBIAN13.userspace_tunnels,
    mariadb=debian.DEBIAN13.mariadb,
    l2_packages={"openvswitch": debian.OPENVSWITCH, "ovn": debian.OVN_HOST},
    daemon_packages={"ovn-northd": debian.OVN_CENTRAL},
    units=_UNITS13,
    paths={**DEBIAN12_PYPI.paths, "ovn-central": debian.DEBIAN13.paths["ovn-central"]},
    # the commands of these APIs are gone; the others are the projects' own servers still
    wsgi=(
        WsgiApi("keystone", "/etc/keystone/keystone-uwsgi.ini", threads=True),
        WsgiApi("placement-api", "/etc/placement/placement-api-uwsgi.ini", threads=True),
        WsgiApi("nova-api", "/etc/nova/nova-api-uwsgi.ini", threads=True),
        WsgiApi("nova-api", "/etc/nova/nova-api-metadata-uwsgi.ini", threads=True),
        WsgiApi("neutron-server", "/etc/neutron/neutron-api-uwsgi.ini", threads=True),
        WsgiApi("heat-api", "/etc/heat/heat-api-uwsgi.ini", threads=True),
        WsgiApi("heat-api-cfn", "/etc/heat/heat-api-cfn-uwsgi.ini", threads=True),
    ),
    openstack_units=debian.openstack_units(_UNITS13, debian.SYSTEM_EXTRA_UNITS),
)
