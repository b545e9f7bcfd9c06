"""The operating systems labctl can put on a node, each with a source of OpenStack's packages."""

from labctl.bases.centos7 import CENTOS7
from labctl.bases.centos8 import CENTOS8
from labctl.bases.debian import DEBIAN12
from labctl.bases.debian_pypi import DEBIAN12_PYPI
from labctl.bases.model import Base
from labctl.errors import LabError
from labctl.releases.model import PackageSource

BASES: dict[tuple[str, PackageSource], Base] = {
    (b.name, b.source): b for b in (DEBIAN12, DEBIAN12_PYPI, CENTOS7, CENTOS8)
}


def get(name: str, source: str) -> Base:
    """Return what labctl knows of a base with this package source.

    :raises LabError: when it has no recipe for it.
    """
    for base in BASES.values():
        if base.name == name and base.source == source:
            return base
    known = ", ".join(f"{n} ({s})" for n, s in BASES)
    raise LabError(f"labctl has no recipe for the base '{name}' with packages from {source}; it has {known}")


__all__ = ["BASES", "Base", "get"]
