"""Antelope (2023.1, March 2023), as differences from Zed."""

from dataclasses import replace

from labctl.releases.model import PackageSource, PyPI, Upgrade, series
from labctl.releases.zed import ZED

ANTELOPE = replace(
    ZED,
    name="antelope",
    title="Antelope",
    number="2023.1",
    bases={"debian12": PackageSource.PYPI},
    pypi=PyPI(python=("3.10", "3.11")),
    versions={
        PackageSource.PYPI: series(
            "keystone 23.0.2, glance 26.1.0, placement 9.0.0, nova 27.5.1, neutron 22.2.1, cinder 22.3.0,"
            "swift 2.31.1, heat 20.0.1, horizon 23.1.1"
        )
    },
    upgrade=Upgrade(after=("zed",)),
    nova_microversion="2.95",
    nova_overcommits=False,  # modern 4.2
    tempest=("tempest==34.2.0",),
    tempest_known={},
)
