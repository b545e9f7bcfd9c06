"""Which labs a home has, from the names of files: no record is opened."""

from __future__ import annotations

from labctl.host import paths

RECORD = "lab.json"
#: The record of a lab that is being removed; removal is all it allows.
REMOVED = "removed.json"


def exists(name: str) -> bool:
    """True when a lab of that name is recorded."""
    return (paths.labs() / name / RECORD).exists()


def half_removed(name: str) -> bool:
    """True when the removal of a lab has begun but not finished."""
    return (paths.labs() / name / REMOVED).exists()


def names() -> list[str]:
    """The recorded labs, sorted."""
    return [name for name in every() if exists(name)]


def every() -> list[str]:
    """Every lab with a directory in this home, sorted, including those without a record or being removed."""
    root = paths.labs()
    return sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def remnant(name: str) -> str:
    """The state of a lab without a record; empty when it has one."""
    if half_removed(name):
        return "half removed"
    return "" if exists(name) else "no record"
