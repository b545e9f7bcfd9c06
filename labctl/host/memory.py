"""Memory that new machines may take."""

from __future__ import annotations

from pathlib import Path

from labctl.errors import LabError

MEMINFO = Path("/proc/meminfo")


def available() -> int:
    """Bytes that can be taken without swapping: MemAvailable of proc(5).

    :raises LabError: the kernel does not say.
    """
    for line in MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LabError(f"{MEMINFO} has no MemAvailable")
