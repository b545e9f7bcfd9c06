"""Ways in which such labs break, as exercises and as the proof of the diagnosis."""

from __future__ import annotations

from labctl.diagnose.breakages import daemons, machines, objects, settings
from labctl.diagnose.breakages.model import Breakage

__all__ = ["BREAKAGES", "BY_NAME", "Breakage"]

BREAKAGES = (*settings.BREAKAGES, *daemons.BREAKAGES, *objects.BREAKAGES, *machines.BREAKAGES)
BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}
