"""A control group per machine: what counts a lab's CPU seconds, and what finds every process of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from labctl.errors import LabError

ROOT = Path("/sys/fs/cgroup")
OWNER = "labctl"


def _hierarchy() -> Path:
    """The hierarchy with CPU accounting: cgroup v2's only one, or v1's cpuacct."""
    if (ROOT / "cgroup.controllers").exists():
        return ROOT
    for name in ("cpuacct", "cpu,cpuacct", "cpu"):
        if (ROOT / name / "cgroup.procs").exists():
            return ROOT / name
    raise LabError("no control group hierarchy with CPU accounting is mounted", "labctl doctor")


def path(lab: str, node: str = "") -> Path:
    """The control group of a lab or of one machine."""
    return _hierarchy() / OWNER / lab / node if node else _hierarchy() / OWNER / lab


def make(lab: str, node: str) -> Path:
    """Make a machine's group and return the file through which a process joins it."""
    group = path(lab, node)
    group.mkdir(parents=True, exist_ok=True)
    return group / "cgroup.procs"


def processes(lab: str, node: str = "") -> list[int]:
    """The processes of a lab or of one machine."""
    group = path(lab, node)
    found: list[int] = []
    for member in [group, *group.rglob("*")] if group.is_dir() else []:
        if member.is_dir():
            try:
                found += [int(line) for line in (member / "cgroup.procs").read_text().split()]
            except OSError:  # a group that went away meanwhile holds no process
                continue
    return found


def cpu_seconds(lab: str) -> float:
    """CPU seconds used by all machines of a lab since they started."""
    group = path(lab)
    try:
        if (group / "cpuacct.usage").exists():
            return int((group / "cpuacct.usage").read_text()) / 1e9
        for line in (group / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
    except OSError:
        pass
    return 0.0


def kill(lab: str, node: str = "", seconds: float = 10) -> list[int]:
    """Kill every process of a lab or machine and remove its group; returns those that would not die."""
    deadline = time.monotonic() + seconds
    left = processes(lab, node)
    while left and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
        left = processes(lab, node)
    group = path(lab, node)
    if not left and group.is_dir():
        for member in sorted(group.rglob("*"), key=lambda p: len(p.parts), reverse=True):
            if member.is_dir():
                _remove(member)
        _remove(group)
        parent = path(lab)
        if node and not any(p.is_dir() for p in parent.iterdir()):
            _remove(parent)
    return left


def _remove(group: Path) -> None:
    for _ in range(20):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:  # EBUSY while the kernel still reaps the last process
            time.sleep(0.05)
