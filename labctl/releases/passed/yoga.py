"""Yoga (March 2022), as differences from Xena."""

from dataclasses import replace

from labctl.releases.model import PackageSource, Upgrade, series
from labctl.releases.passed.xena import XENA

YOGA = replace(
    XENA,
    name="yoga",
    title="Yoga",
    versions={
        PackageSource.PYPI: series(
            "keystone 21.0.1, glance 24.2.1, placement 7.0.0, nova 25.3.0, neutron 20.0.0, cinder 20.3.2,"
            "swift 2.29.2, heat 18.0.1, horizon 22.1.1"
        )
    },
    upgrade=Upgrade(after=("xena",)),
    service_token=True,  # cinder 20.3.2 asks for it, 19.3.0 does not; Launchpad bug 2004555
    service_users=("nova", "cinder"),
    tempest=("tempest==30.0.0",),
)
