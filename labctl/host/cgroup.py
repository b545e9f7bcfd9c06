"""A control group per machine: counts a lab's CPU seconds, finds all its processes, and can freeze it.

A host with cgroup v2 has one hierarchy for all of that. With v1 the freezer is a separate hierarchy, in which a
machine has a group only while it is frozen. systemd tracks its services in one or two more (``systemd``,
``unified``); without groups of their own there, all machines would share one, and a service stopping in one
machine would wait for the service of the same name in another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from labctl.errors import LabError
from labctl.host import paths

ROOT = Path("/sys/fs/cgroup")


def owner() -> str:
    """Name of the group that holds all labs of one labctl home; it contains the home's mark."""
    return f"labctl-{paths.mark()}"


def _hierarchy() -> Path:
    """The hierarchy with CPU accounting: cgroup v2's only one, or v1's cpuacct."""
    if (ROOT / "cgroup.controllers").exists():
        return ROOT
    for name in ("cpuacct", "cpu,cpuacct", "cpu"):
        if (ROOT / name / "cgroup.procs").exists():
            return ROOT / name
    raise LabError("no control group hierarchy with CPU accounting is mounted", "labctl doctor")


def path(name: str, node: str = "") -> Path:
    """The control group of a lab or of one machine."""
    return _hierarchy() / owner() / name / node if node else _hierarchy() / owner() / name


def _everywhere(lab_name: str, node: str = "") -> list[Path]:
    """The groups of a lab or of one machine in the hierarchy of ``path`` and in those that systemd uses."""
    tops = [_hierarchy(), *(ROOT / name for name in ("systemd", "unified") if (ROOT / name / "cgroup.procs").exists())]
    return [top / owner() / lab_name / node if node else top / owner() / lab_name for top in tops]


def labs() -> list[str]:
    """Labs of this home that have control groups."""
    if not ROOT.is_dir():
        return []
    tops = [_hierarchy(), *(ROOT / name for name in ("systemd", "unified", "freezer"))]
    return sorted({group.name for top in tops for group in (top / owner()).glob("*") if group.is_dir()})


def _freezer(name: str, node: str = "") -> Path:
    """The group that freezes a lab's machines, or one machine."""
    if (ROOT / "cgroup.controllers").exists():
        return path(name, node)
    return ROOT / "freezer" / owner() / name / node if node else ROOT / "freezer" / owner() / name


def groups(name: str) -> list[Path]:
    """The lab's existing control groups, one per hierarchy."""
    return [group for group in dict.fromkeys((*_everywhere(name), _freezer(name))) if group.is_dir()]


def make(name: str, node: str) -> list[Path]:
    """Make a machine's groups and return the files through which a process joins them."""
    made = _everywhere(name, node)
    for group in made:
        for again in (True, True, False):
            try:
                group.mkdir(parents=True, exist_ok=True)
                break
            except FileNotFoundError:  # another lab's last machine was removed, and the home's group with it
                if not again:
                    raise
    return [group / "cgroup.procs" for group in made]


def joining(name: str, node: str) -> tuple[str, ...]:
    """The words before a command that put it into a machine's groups, which are made."""
    groups = " ".join(map(str, make(name, node)))
    return ("sh", "-c", 'for group in $0; do echo $$ >"$group" || exit; done; exec "$@"', groups)


def processes(name: str, node: str = "") -> list[int]:
    """The processes of a lab or of one machine."""
    group = path(name, node)
    found: list[int] = []
    for member in [group, *group.rglob("*")] if group.is_dir() else []:
        if member.is_dir():
            try:
                found += [int(line) for line in (member / "cgroup.procs").read_text().split()]
            except OSError:  # a group removed meanwhile holds no process
                continue
    return found


def cpu_seconds(name: str) -> float:
    """CPU seconds used by all machines of a lab since they started."""
    group = path(name)
    try:
        if (group / "cpuacct.usage").exists():
            return int((group / "cpuacct.usage").read_text()) / 1e9
        for line in (group / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
    except OSError:
        pass
    return 0.0


def kill(name: str, node: str = "", seconds: float = 10) -> list[int]:
    """Kill every process of a lab or machine and remove its groups; returns processes that did not end.

    A process that joins meanwhile, as one that was just started, is killed too.
    """
    deadline = time.monotonic() + seconds
    thaw(name, node)  # v1 delivers no signals to frozen processes
    while True:
        if not processes(name, node):
            for group in _everywhere(name, node):
                _remove_all(group)
        left = processes(name, node)
        if not left or time.monotonic() > deadline:
            return left
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _remove_all(group: Path) -> None:
    """Remove a group with its children, and its empty parents up to the home's group."""
    if not group.is_dir():
        return
    for member in sorted(group.rglob("*"), key=lambda p: len(p.parts), reverse=True):
        if member.is_dir():
            _remove(member)
    _remove(group)
    while group.name != owner():
        group = group.parent
        try:
            group.rmdir()
        except OSError:  # it holds a group of another machine or lab
            return


def _remove(group: Path) -> None:
    for _ in range(20):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:  # EBUSY while the kernel is still reaping the last process
            if _used(group):
                return
            time.sleep(0.05)


def _used(group: Path) -> bool:
    """True when a group has children or processes, so that waiting does not help."""
    try:
        return any(member.is_dir() for member in group.iterdir()) or bool(_members(group))
    except OSError:  # removed meanwhile
        return False


# --- freezing --------------------------------------------------------------------------------------


def freeze(name: str, node: str, seconds: float = 10) -> None:
    """Freeze every process of a machine, until :func:`thaw`.

    :raises LabError: the kernel has no freezer, or the processes did not freeze within that many seconds.
    """
    group, deadline = _freezer(name, node), time.monotonic() + seconds
    if group == path(name, node):
        (group / "cgroup.freeze").write_text("1")
    else:
        if not (ROOT / "freezer" / "cgroup.procs").exists():
            raise LabError("machines cannot be paused: this host has no freezer control group mounted")
        group.mkdir(parents=True, exist_ok=True)
        (group / "freezer.state").write_text("FROZEN")
        # a process that joins a frozen group freezes; children forked before it joined are found in the next round
        while new := set(processes(name, node)) - _members(group):
            for pid in new:
                _join(group, pid)
            if time.monotonic() > deadline:
                raise LabError(
                    f"{node}: processes {sorted(new)} did not freeze", f"labctl fault {name} node resume {node}"
                )
    while not _is_frozen(group):
        if time.monotonic() > deadline:
            raise LabError(f"{node} did not freeze within {seconds:g} s", f"labctl fault {name} node resume {node}")
        time.sleep(0.05)
        if group != path(name, node):
            # a process waiting for its vfork'ed child may be missed; writing again catches it
            (group / "freezer.state").write_text("FROZEN")


def thaw(name: str, node: str = "", seconds: float = 10) -> None:
    """Thaw the processes of a machine, or of all machines of a lab; idempotent.

    They resume immediately; with v1, ``seconds`` limits emptying and removing the group.
    """
    top, deadline = _freezer(name, node), time.monotonic() + seconds
    if top == path(name, node):
        for group in (top, *top.glob("*")) if top.is_dir() else ():
            if (group / "cgroup.freeze").exists():
                (group / "cgroup.freeze").write_text("0")
        return
    machines = [top] if node else [p for p in top.glob("*") if p.is_dir()]
    for group in machines:
        if group.is_dir():
            (group / "freezer.state").write_text("THAWED")
            while (members := _members(group)) and time.monotonic() < deadline:
                for pid in members:
                    _join(ROOT / "freezer", pid)
            _remove_all(group)
    if not node:
        _remove_all(top)


def frozen(name: str, node: str) -> bool:
    """True while a machine's processes are frozen, or about to be."""
    group = _freezer(name, node)
    try:
        if group == path(name, node):
            return (group / "cgroup.freeze").read_text().strip() == "1"
        return (group / "freezer.state").read_text().strip() != "THAWED"
    except OSError:
        return False


def _is_frozen(group: Path) -> bool:
    if (group / "cgroup.events").exists():
        return "frozen 1" in (group / "cgroup.events").read_text()
    return (group / "freezer.state").read_text().strip() == "FROZEN"


def _members(group: Path) -> set[int]:
    return {int(line) for line in (group / "cgroup.procs").read_text().split()}


def _join(group: Path, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        (group / "cgroup.procs").write_text(str(pid))
