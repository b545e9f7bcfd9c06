"""Rocky (August 2018): RDO's packages on CentOS 7, or projects from PyPI on Debian 12, as differences from Train."""

from dataclasses import replace

from labctl.releases import rdo
from labctl.releases.model import PackageSource, Placement, PyPI, series
from labctl.releases.train import PYROUTE2, TRAIN

_PYPI = "keystone 14.2.0, glance 17.0.1, nova 18.3.0, neutron 13.0.7, cinder 13.0.9, heat 11.0.3"
_RDO = f"{_PYPI}, placement 18.3.0, swift 2.19.2, horizon 14.1.0, python-openstackclient 3.16.3"

ROCKY = replace(
    TRAIN,
    name="rocky",
    title="Rocky",
    # QEMU 7 writes a blank before a unit, which the oslo.utils of the constraints cannot parse
    pypi=PyPI(python=("3.6",), extra=(PYROUTE2, "oslo.utils==3.41.6")),
    versions={PackageSource.RDO: series(_RDO), PackageSource.PYPI: series(_PYPI)},
    upgrade=None,
    rdo=rdo.ROCKY,
    placement=Placement.IN_NOVA,  # facts 6.3
    consoleauth=True,  # facts 6.4
    glance_registry=True,  # facts 6.2
    nova_microversion="2.65",
    nova_neutron_url=True,  # facts 6.4
    nova_backing_format=False,  # facts 6.4
    client_batch=False,  # facts 9
    tempest=("tempest==19.0.0",),
)
