"""Xena (October 2021), as differences from Wallaby."""

from dataclasses import replace

from labctl.releases.model import PackageSource, Upgrade, series
from labctl.releases.passed.wallaby import WALLABY

XENA = replace(
    WALLABY,
    name="xena",
    title="Xena",
    versions={
        PackageSource.PYPI: series(
            "keystone 20.0.1, glance 23.1.0, placement 6.0.0, nova 24.2.1, neutron 19.2.0, cinder 19.3.0,"
            "swift 2.28.1, heat 17.0.2, horizon 20.1.4"
        )
    },
    upgrade=Upgrade(after=("wallaby",), removed_services=("volumev2",)),
    nova_microversion="2.90",
    cinder_api_versions=(3,),
    tempest=("tempest==29.0.0",),
)
