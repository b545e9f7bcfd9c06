"""A limit of the kernel that all containers share, because the root of each is the host's: inotify instances.

A systemd that gets none does not start. The limit is raised as machines need it, and is as before without any.
"""

from __future__ import annotations

from pathlib import Path

from labctl.host import files, lock, process
from labctl.progress import note

INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
#: What it was before it was raised; gone when the host restarts.
BEFORE = Path("/run/labctl/max_user_instances")
#: Instances of a machine (systemd has five, D-Bus and PolicyKit one each), and what the host keeps for itself.
EACH, OWN = 8, 64


def admit(machines: int) -> None:
    """Let so many machines run on this host; does nothing where the limit is high enough."""
    needed = OWN + EACH * machines
    if _limit() >= needed:
        return
    with lock.exclusive(BEFORE.with_suffix(".lock"), "changes the host's limits"):
        if (before := _limit()) < needed:
            if not BEFORE.exists():
                files.write_atomic(BEFORE, str(before))
            _set(str(needed))
            note("host", f"fs.inotify.max_user_instances is {needed} now, was {before}: {machines} machines need it")


def restore(machines: int) -> None:
    """Set the limit back when no machine is left."""
    if machines or not BEFORE.exists():
        return
    with lock.exclusive(BEFORE.with_suffix(".lock"), "changes the host's limits"):
        if BEFORE.exists():
            _set(BEFORE.read_text())
            files.remove(BEFORE, within=BEFORE.parent)


def _set(value: str) -> None:
    process.run(["sysctl", "-q", "-w", f"fs.inotify.max_user_instances={value}"])


def _limit() -> int:
    return int(INSTANCES.read_text())
