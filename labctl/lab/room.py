"""What would free how much of labctl's home: for whoever reads that a disk is full."""

from __future__ import annotations

import time

from labctl.host import sparse, threads
from labctl.lab import gc
from labctl.lab.snapshot import snapshots
from labctl.records.directory import names
from labctl.records.lab import Lab
from labctl.topology.units import show_size

#: Seconds for all figures: a message does not wait for them longer.
PATIENCE = 5.0
_LABS = "labctl list and labctl down free what a lab has"


def said() -> str:
    """The commands that free space, each with the bytes that it frees where they were found in time; never fails."""
    works = {"labctl gc": _leftovers, "labctl image prune --unused": _images, "": _snapshot}
    asked = [(command, threads.started(work)) for command, work in works.items()]
    until = time.monotonic() + PATIENCE
    found = []
    for command, future in asked:
        try:
            own, size = threads.result(future, max(until - time.monotonic(), 0))
        except Exception:  # whatever it is, the message about the disk matters more
            own, size = command or _LABS, None
        if size is None:
            found.append(own)
        elif size:
            found.append(f"{own} frees {show_size(size)}")
    return "; ".join(found) or _LABS


def _leftovers() -> tuple[str, int]:
    return "labctl gc", sum(finding.size for finding in gc.find())


def _images() -> tuple[str, int]:
    return "labctl image prune --unused", sum(finding.size for finding in gc.unused_images())


def _snapshot() -> tuple[str, int]:
    """The snapshot whose deletion frees most: its layers that nothing else is built upon."""
    best = ("", 0)
    for name in names():
        lab = Lab.load(name)
        every = snapshots(lab)
        for snapshot in every:
            others = {*lab.stack, *(n for other in every if other.name != snapshot.name for n in other.stack)}
            size = sparse.used(*(lab.layer(number) for number in snapshot.stack if number not in others))
            best = max(best, (f"labctl snapshot delete {name} {snapshot.name}", size), key=lambda found: found[1])
    return best
