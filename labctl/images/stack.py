"""Layers of an image, laid over each other, as one looks at them from the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def find(layers: Sequence[Path], name: str | Path) -> Path | None:
    """What a path of the whole tree is: in the uppermost layer that has it; None when none has.

    :param layers: the uppermost first.
    :param name: relative to the root.
    """
    places = (layer / "tree" / name for layer in layers)
    return next((p for p in places if p.is_symlink() or p.exists()), None)


def dpkg_status(layers: Sequence[Path]) -> Path | None:
    """dpkg's list of what is installed in the whole tree, None where there is no dpkg yet."""
    return find(layers, "var/lib/dpkg/status")
