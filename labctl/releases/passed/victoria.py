"""Victoria (October 2020), as differences from Ussuri."""

from dataclasses import replace

from labctl.releases.model import PackageSource, PyPI, Upgrade, series
from labctl.releases.train import PYROUTE2
from labctl.releases.ussuri import USSURI

VICTORIA = replace(
    USSURI,
    name="victoria",
    title="Victoria",
    bases={"debian12": PackageSource.PYPI},
    pypi=PyPI(python=("3.8",), extra=(PYROUTE2,)),
    versions={
        PackageSource.PYPI: series(
            "keystone 18.1.0, glance 21.1.0, placement 4.0.0, nova 22.4.0, neutron 17.4.1, cinder 17.4.0,"
            "swift 2.26.0, heat 15.1.0, horizon 18.6.4"
        )
    },
    upgrade=Upgrade(after=("ussuri",), policy_yaml=("nova",), broken_checks=("glance",)),
    rdo=None,
    tempest=("tempest==25.0.1",),
)
