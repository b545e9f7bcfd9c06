"""Gazpacho (2026.1, April 2026): projects from PyPI on Debian 13, as differences from Epoxy."""

from dataclasses import replace

from labctl.releases.epoxy import EPOXY
from labctl.releases.model import PackageSource, Upgrade, series

GAZPACHO = replace(
    EPOXY,
    name="gazpacho",
    title="Gazpacho",
    number="2026.1",
    bases={"debian13": PackageSource.PYPI},
    upgrade=Upgrade(after=("epoxy",)),
    versions={
        PackageSource.PYPI: series(
            "keystone 29.1.0, glance 32.0.0, placement 15.0.0, nova 33.0.2, neutron 28.0.2, cinder 28.0.0,"
            "swift 2.37.4, heat 26.0.2, horizon 25.7.3"
        )
    },
    eventlet_apis=(),
    nova_auth_strategy="",  # its options
    nova_microversion="2.103",
    nova_api_servers=False,  # modern 4.2
    nova_sleeps_to_stop=True,  # nova 33: graceful_shutdown() of the compute, conductor and scheduler managers
    neutron_network_types="project_network_types",  # modern 4.1
    tempest=("tempest==46.1.1",),  # the last of the cycle: 46.0.0 imports what its oslo.utils dropped
    tempest_known={},
)
