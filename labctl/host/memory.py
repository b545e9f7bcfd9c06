"""Memory: what is available to new machines, and what running ones use."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from labctl.errors import LabError

MEMINFO = Path("/proc/meminfo")
#: Bytes of free memory that labs leave to everything else.
RESERVE = 2**30


def available() -> int:
    """Bytes available without swapping: MemAvailable of proc(5).

    :raises LabError: the kernel does not report it.
    """
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LabError(f"{MEMINFO} has no MemAvailable")


def used(pids: Iterable[int]) -> int:
    """Bytes that processes use, what they share with others divided among all: Pss of proc_pid_smaps(5)."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # it has ended
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
