"""Caracal (2024.1, April 2024), from PyPI on Debian 12, as differences from Zed; labctl's last one with linuxbridge."""

from dataclasses import replace

from labctl.releases.model import PackageSource, PyPI, Upgrade, series
from labctl.releases.zed import ZED

#: From here on projects build with today's tools, and need pkg_resources for that, which setuptools 81 dropped.
TOOLS = ("pip>=26,<27", "setuptools<81", "wheel")
BUILD = ("setuptools<81",)

#: Cinder's data migrations left out what is deleted (Launchpad bug 2070475).
QUOTA = "UPDATE {} SET use_quota = 1 WHERE use_quota IS NULL AND deleted = 1"

CARACAL = replace(
    ZED,
    name="caracal",
    title="Caracal",
    number="2024.1",
    bases={"debian12": PackageSource.PYPI},
    # horizon's cache of sessions needs pymemcache (modern 4.4)
    pypi=PyPI(python=("3.11",), extra=("pymemcache",), tools=TOOLS, build=BUILD, uwsgi="2.0.28"),
    upgrade=Upgrade(
        after=("antelope",), mended_rows=tuple(("cinder", QUOTA.format(t)) for t in ("volumes", "snapshots"))
    ),
    versions={
        PackageSource.PYPI: series(
            "keystone 25.0.0, glance 28.2.0, placement 11.0.1, nova 29.4.0, neutron 24.2.2, cinder 24.5.0,"
            "swift 2.33.1, heat 22.0.1, horizon 24.0.2"
        )
    },
    service_role_bootstrapped=True,  # modern 4.3: keystone 24.0.0
    service_users=("nova", "cinder", "neutron", "glance", "placement"),  # modern 4.1, 4.3
    nova_microversion="2.96",
    nova_overcommits=False,  # modern 4.2: 2023.1
    green_log_locks=False,  # modern 4.5: oslo.log 5.5.1
    django_cache="PyMemcacheCache",  # modern 4.4
    tempest=("tempest==38.0.0",),
    tempest_known={},
)
