"""A lab's golden image: layers, each content-addressed and shared by every lab that needs the same one."""

from __future__ import annotations

from pathlib import Path

from labctl import bases, releases
from labctl.images import debian, installed, pypi, vm
from labctl.releases.model import PackageSource
from labctl.topology.spec import LabSpec


def ensure(base: str, source: str, release: str) -> tuple[Path, ...]:
    """Return the layers of a release on a base, the uppermost first, building those that are not there.

    Each has its files under ``tree``; laid over each other they are a node's whole file system.
    """
    recipe = bases.get(base, source)
    if recipe.source is PackageSource.PYPI:
        return pypi.ensure(recipe, releases.get(release))
    return debian.ensure(recipe)


def disk(spec: LabSpec) -> Path:
    """Return the golden disk of a lab of virtual machines: ``tree/disk.qcow2``.

    A tree becomes a disk with its kernel and initrd beside it; what an installer has made starts itself.

    :raises LabError: its medium is missing; says which.
    """
    recipe = bases.get(spec.base, spec.package_source)
    if recipe.redhat is not None:
        return installed.ensure(recipe, releases.get(spec.release), spec.vault)
    return vm.ensure(ensure(spec.base, spec.package_source, spec.release))
