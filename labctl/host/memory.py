"""Memory available to new machines."""

from __future__ import annotations

from pathlib import Path

from labctl.errors import LabError

MEMINFO = Path("/proc/meminfo")


def available() -> int:
    """Bytes available without swapping: MemAvailable of proc(5).

    :raises LabError: the kernel does not report it.
    """
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LabError(f"{MEMINFO} has no MemAvailable")
