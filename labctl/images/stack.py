"""The stacked layers of an image, as seen from the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def find(layers: Sequence[Path], name: str | Path) -> Path | None:
    """Find a path of the stacked tree in the uppermost layer that has it; None if no layer has it.

    :param layers: uppermost first.
    :param name: relative to the root.
    """
    places = (layer / "tree" / name for layer in layers)
    return next((p for p in places if p.is_symlink() or p.exists()), None)


def dpkg_status(layers: Sequence[Path]) -> Path | None:
    """dpkg's status file of the stacked tree, None if there is no dpkg yet."""
    return find(layers, "var/lib/dpkg/status")
