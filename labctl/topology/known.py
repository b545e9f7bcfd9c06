"""The topologies that have names."""

from __future__ import annotations

from pathlib import Path

from labctl import shipped


def known() -> dict[str, Path]:
    """Topologies available by name: those in ``./topologies``, then labctl's own."""
    found: dict[str, Path] = {}
    for folder in (Path("topologies"), shipped("topologies")):
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            found.setdefault(file.stem, file)
    return found


def local(file: Path) -> bool:
    """True for a topology of the working directory that is not labctl's own."""
    return not file.is_absolute() and file.resolve().parent != shipped("topologies")
