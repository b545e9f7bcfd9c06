"""A lab's golden image: layers, each content-addressed and shared by every lab that needs the same one."""

from __future__ import annotations

from pathlib import Path

from labctl import bases, releases
from labctl.images import debian, pypi
from labctl.releases.model import PackageSource


def ensure(base: str, source: str, release: str) -> tuple[Path, ...]:
    """Return the layers of a release on a base, the uppermost first, building those that are not there.

    Each has its files under ``tree``; laid over each other they are a node's whole file system.
    """
    recipe = bases.get(base, source)
    if recipe.source is PackageSource.PYPI:
        return pypi.ensure(recipe, releases.get(release))
    return (debian.ensure(recipe),)
