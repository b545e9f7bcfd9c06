"""A lab's golden image: layers, each content-addressed and shared by every lab that needs the same one."""

from __future__ import annotations

from pathlib import Path

from labctl import bases
from labctl.images import debian


def ensure(base: str, source: str, release: str) -> tuple[Path, ...]:
    """Return the layers of a release on a base, the uppermost first, building those that are not there.

    Each has its files under ``tree``; laid over each other they are a node's whole file system.
    """
    return (debian.ensure(bases.get(base, source)),)
