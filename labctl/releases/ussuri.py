"""Ussuri (May 2020): RDO's packages on CentOS 8, or projects from PyPI on Debian 12, as differences from Train."""

from dataclasses import replace

from labctl.releases import rdo
from labctl.releases.model import PackageSource, PyPI, Upgrade, series
from labctl.releases.train import IMMUTABLE, PYROUTE2, TRAIN

_PYPI = (
    "keystone 17.0.1, glance 20.2.0, placement 3.0.1, nova 21.2.4, neutron 16.4.2, cinder 16.4.2, swift 2.25.2,"
    "heat 14.2.0, horizon 18.3.5, gnocchi 4.3.5, ceilometer 14.1.0, aodh 10.0.0"
)

USSURI = replace(
    TRAIN,
    name="ussuri",
    title="Ussuri",
    bases={"centos8": PackageSource.RDO, "debian12": PackageSource.PYPI},
    pypi=PyPI(python=("3.7", "3.8"), extra=(PYROUTE2,)),
    versions={
        PackageSource.RDO: series(f"{_PYPI}, python-openstackclient 5.2.0"),
        PackageSource.PYPI: series(_PYPI),
    },
    # glance.cmd.status looks for sheepdog in enabled_backends, which is None where one store is configured as in guides
    upgrade=Upgrade(after=("train",), immutable_roles=IMMUTABLE, broken_checks=("glance",)),
    rdo=rdo.USSURI,
    nova_microversion="2.87",
    nova_use_neutron=False,  # facts 12
    mechanisms=("openvswitch", "linuxbridge"),  # facts 6.6
    tempest=("tempest==24.0.0",),
)
