"""OpenStack from the Python Package Index on Debian, with the unit names of the CentOS packages.

Debian provides everything that is not OpenStack; the projects are in ``/opt/openstack/RELEASE`` of the image
(labctl/images/pypi.py), and their units have the names used in facts section 6 and the notes.
"""

from __future__ import annotations

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
}

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
    packages={c: (*debian.PARTS.get(c, ()), *debian.NEEDED.get(c, ())) for c in C},
    l2_packages={"linuxbridge": (), "openvswitch": debian.OPENVSWITCH},
    units=UNITS,
    paths={**debian.SYSTEM_PATHS, "plugin-ini": "/etc/neutron/plugin.ini", "horizon-url": "/dashboard"},
    # the other APIs are the projects' own eventlet servers, as in RDO's packages
    wsgi=(
        WsgiApi("keystone", "/etc/keystone/keystone-uwsgi.ini", threads=True),
        WsgiApi("placement-api", "/etc/placement/placement-api-uwsgi.ini", threads=True),
        WsgiApi("nova-placement-api", "/etc/nova/nova-placement-api-uwsgi.ini", threads=True),
    ),
    openstack_units=debian.openstack_units(UNITS, debian.SYSTEM_EXTRA_UNITS),
    unwanted_units=debian.UNWANTED_UNITS,
)
