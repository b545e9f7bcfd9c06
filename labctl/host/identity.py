"""Which process is which: a pid with the time of its start is unique within a boot."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> str:
    """The kernel's start time of a process: together with the pid, an identity that is unique within a boot.

    Empty for a process that has ended, even if this process has not reaped it yet.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def of(pid: int) -> dict[str, str | int]:
    """The identity of a running process, unlike any other that had the same pid; empty when it is not running."""
    if not (start := start_time(pid)):
        return {}
    return {"pid": pid, "start": start, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
