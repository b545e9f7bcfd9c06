"""Epoxy (2025.1, April 2025), as Debian 13 packages it, as differences from Caracal."""

from dataclasses import replace

from labctl.releases import tempest
from labctl.releases.caracal import BUILD, CARACAL, TOOLS
from labctl.releases.model import PackageSource, PyPI, Upgrade, series

EPOXY = replace(
    CARACAL,
    name="epoxy",
    title="Epoxy",
    number="2025.1",
    bases={"debian13": PackageSource.DEBIAN},
    # only on the way to another release; its projects run on Debian 13's interpreter (modern 3.1.1)
    pypi=PyPI(python=("3.13", "3.12", "3.11"), extra=("pymemcache",), tools=TOOLS, build=BUILD, uwsgi="2.0.30"),
    upgrade=Upgrade(after=("caracal",)),
    versions={
        PackageSource.DEBIAN: series(
            "keystone 27.0.0, glance 30.0.0, placement 13.0.0, nova 31.0.0, neutron 26.0.3, cinder 26.0.0,"
            "swift 2.35.1, heat 24.0.0, horizon 25.3.0, python-openstackclient 7.4.0, gnocchi 4.6.5, ceilometer 24.0.0,"
            "aodh 20.0.0"
        ),
        PackageSource.PYPI: series(
            "keystone 27.1.0, glance 30.2.0, placement 13.0.1, nova 31.3.1, neutron 26.0.6, cinder 26.3.0,"
            "swift 2.35.5, heat 24.1.2, horizon 25.3.2"
        ),
    },
    notifying=("glance", "nova", "neutron", "cinder", "heat"),
    nova_microversion="2.100",
    eventlet_apis=("nova-api", "heat-api", "heat-api-cfn"),  # modern 4.5
    mechanisms=("ovn", "openvswitch"),  # modern 4.1
    linuxbridge_experimental=False,  # modern 4.1: removed
    tempest=("tempest==43.0.0",),
    tempest_known=tempest.DEBIAN_KNOWN,
)
