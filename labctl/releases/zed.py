"""Zed (October 2022), as Debian 12 packages it, as differences from Ussuri."""

from dataclasses import replace

from labctl.releases import tempest
from labctl.releases.model import PackageSource, PyPI, Upgrade, series
from labctl.releases.ussuri import USSURI

ZED = replace(
    USSURI,
    name="zed",
    title="Zed",
    bases={"debian12": PackageSource.DEBIAN},
    versions={
        PackageSource.DEBIAN: series(
            "keystone 22.0.2, glance 25.1.0, placement 8.0.0, nova 26.2.2, neutron 21.0.0, cinder 21.3.1, swift 2.30.1,"
            "heat 19.0.0, horizon 23.0.0, python-openstackclient 6.0.0, gnocchi 4.4.2, ceilometer 19.0.0, aodh 15.0.0"
        ),
        PackageSource.PYPI: series(
            "keystone 22.0.2, glance 25.1.0, placement 8.0.0, nova 26.3.0, neutron 21.2.1, cinder 21.3.2, swift 2.30.1,"
            "heat 19.0.2, horizon 23.0.2"
        ),
    },
    pypi=PyPI(python=("3.10",)),  # only on the way to another release
    upgrade=Upgrade(after=("yoga",)),
    rdo=None,
    service_token=True,  # facts 6.0; Launchpad bug 2004555
    service_users=("nova", "cinder"),
    green_log_locks=True,  # oslo.log 5.0.1
    nova_microversion="2.93",
    neutron_allow_overlapping_ips=False,  # facts 12
    linuxbridge_experimental=True,  # facts 6.5
    mechanisms=("linuxbridge", "openvswitch"),
    cinder_api_versions=(3,),  # facts 6.7
    aodh_evaluator_section="evaluator",  # aodh source: deprecated_group
    # with Debian 12's oslo.messaging 14.0.3 no volume is made (read_deleted is None), no scaling group grows
    notifying=("glance", "nova", "neutron"),
    tempest=tempest.ZED,
    tempest_known=tempest.DEBIAN_KNOWN,
)
