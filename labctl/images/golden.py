"""A lab's golden image: content-addressed layers, shared by all labs that need the same ones."""

from __future__ import annotations

from pathlib import Path

from labctl import bases, releases
from labctl.host import paths
from labctl.images import debian, installed, pypi, ready, store, vm
from labctl.releases.model import PackageSource
from labctl.topology.spec import LabSpec


def ensure(base: str, source: str, release: str) -> tuple[Path, ...]:
    """Return the layers of a release on a base, uppermost first, building missing ones.

    Each has its files under ``tree``; stacked, they are a node's whole file system.
    """
    recipe = bases.get(base, source)
    facts = releases.get(release)
    made = pypi.ensure(recipe, facts) if recipe.source is PackageSource.PYPI else debian.ensure(recipe)
    return ready.ensure(recipe, facts, made)


def there(base: str, release: str) -> bool:
    """True if an image of a release from PyPI on a base is in the store, though not always the newest."""
    return any(paths.images().glob(f"{base}-{release}-*"))


@store.keeping()
def disk(spec: LabSpec) -> Path:
    """Return the golden disk of a lab of virtual machines: ``tree/disk.qcow2``.

    A disk built from a tree has its kernel and initrd beside it; an installer's disk has its own boot loader.

    :raises LabError: the installation medium is missing; says which.
    """
    recipe = bases.get(spec.base, spec.package_source)
    if recipe.redhat is not None:
        return installed.ensure(recipe, releases.get(spec.release), spec.vault)
    return vm.ensure(ensure(spec.base, spec.package_source, spec.release))
