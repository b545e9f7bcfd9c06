"""The operating systems labctl can put on a node."""

from labctl.bases.debian import DEBIAN12
from labctl.bases.model import Base
from labctl.errors import LabError

BASES: dict[str, Base] = {b.name: b for b in (DEBIAN12,)}


def get(name: str) -> Base:
    """Return what labctl knows of a base.

    :raises LabError: when it has no recipe for it.
    """
    if name not in BASES:
        raise LabError(f"labctl has no recipe for the base '{name}'; it has {', '.join(BASES)}")
    return BASES[name]


__all__ = ["BASES", "Base", "get"]
