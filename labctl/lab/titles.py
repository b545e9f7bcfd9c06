"""What a lab is, in a few words."""

from __future__ import annotations

from labctl import bases, releases
from labctl.releases.model import PackageSource
from labctl.topology.spec import LabSpec

SOURCE_TITLES = {
    PackageSource.RDO: "RDO's packages",
    PackageSource.DEBIAN: "Debian's packages",
    PackageSource.PYPI: "PyPI",
}


def describe(spec: LabSpec) -> str:
    """Describe a lab: ``Train from PyPI on Debian 12 (documented: CentOS 7)``."""
    documented = bases.of(releases.get(spec.release))[0]
    words = (
        f"{releases.get(spec.release).title} from {SOURCE_TITLES[PackageSource(spec.package_source)]}"
        f" on {bases.TITLES[spec.base]}"
    )
    return words if spec.base == documented else f"{words} (documented: {bases.TITLES[documented]})"
