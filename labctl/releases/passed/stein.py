"""Stein (April 2019), as differences from Train."""

from dataclasses import replace

from labctl.releases.model import PackageSource, PyPI, Upgrade, series
from labctl.releases.train import PYROUTE2, TRAIN

STEIN = replace(
    TRAIN,
    name="stein",
    title="Stein",
    bases={"debian12": PackageSource.PYPI},
    # its own upper constraints are no longer published
    pypi=PyPI(python=("3.7",), extra=("mock<4", PYROUTE2, "jsonschema<3"), constraints="train"),
    versions={
        PackageSource.PYPI: series(
            "keystone 15.0.1, glance 18.0.1, placement 1.1.0, nova 19.3.2, neutron 14.4.2, cinder 14.3.1,"
            "swift 2.21.1, heat 12.2.0, horizon 15.3.2"
        )
    },
    upgrade=Upgrade(after=("rocky",)),
    rdo=None,
    nova_microversion="2.72",
    tempest=("tempest==20.0.0",),
)
