"""The operating systems labctl can install on a node, each with a source of OpenStack packages."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.bases.centos7 import CENTOS7
from labctl.bases.centos8 import CENTOS8
from labctl.bases.debian import DEBIAN12, DEBIAN13
from labctl.bases.debian_pypi import DEBIAN12_PYPI, DEBIAN13_PYPI
from labctl.bases.model import Base
from labctl.components import Component
from labctl.drivers import DRIVERS
from labctl.errors import LabError
from labctl.releases.model import PackageSource, Release

BASES: dict[tuple[str, PackageSource], Base] = {
    (b.name, b.source): b for b in (DEBIAN12, DEBIAN13, DEBIAN12_PYPI, DEBIAN13_PYPI, CENTOS7, CENTOS8)
}


for _base in BASES.values():
    if _missing := set(Component) - set(_base.packages):
        raise TypeError(f"the base {_base.name} ({_base.source}) names no packages for {', '.join(sorted(_missing))}")

#: Base name in files -> display name.
TITLES: Mapping[str, str] = {base.name: base.title.partition(",")[0] for base in BASES.values()}


def of(release: Release) -> tuple[str, ...]:
    """The bases that a release can be installed on, the documented one first."""
    return tuple(name for name, source in release.bases.items() if (name, source) in BASES)


def runs_on(name: str, driver: str) -> bool:
    """True when a driver can create nodes with a base."""
    return DRIVERS[driver].own_kernel or not any(b.own_kernel for b in BASES.values() if b.name == name)


def get(name: str, source: str) -> Base:
    """Return what labctl knows about a base with this package source.

    :raises LabError: when it has no recipe for it.
    """
    for base in BASES.values():
        if base.name == name and base.source == source:
            return base
    known = ", ".join(f"{n} ({s})" for n, s in BASES)
    raise LabError(f"labctl has no recipe for the base '{name}' with packages from {source}; it has {known}")


__all__ = ["BASES", "TITLES", "Base", "get", "of", "runs_on"]
