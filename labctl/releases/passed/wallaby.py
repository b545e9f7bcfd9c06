"""Wallaby (April 2021), as differences from Victoria."""

from dataclasses import replace

from labctl.releases.model import PackageSource, Upgrade, series
from labctl.releases.passed.victoria import VICTORIA

WALLABY = replace(
    VICTORIA,
    name="wallaby",
    title="Wallaby",
    versions={
        PackageSource.PYPI: series(
            "keystone 19.0.1, glance 22.1.1, placement 5.0.1, nova 23.2.2, neutron 18.3.0, cinder 18.2.1,"
            "swift 2.27.0, heat 16.1.0, horizon 19.4.0"
        )
    },
    upgrade=Upgrade(after=("victoria",), policy_yaml=("glance", "keystone", "neutron", "cinder", "placement")),
    nova_microversion="2.88",
    tempest=("tempest==27.0.0",),
)
