"""Remove labs whose lease has ended; a timer of systemd does it regularly."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl import shipped
from labctl.errors import LabError
from labctl.host import files, lock, sparse
from labctl.lab import down as teardown
from labctl.lab.finding import Finding
from labctl.progress import warn
from labctl.records import lease
from labctl.records.directory import exists, names
from labctl.records.lab import Lab, lock_file, locked

#: The kind of what is found here, beside leftovers.
KIND = "expired lab"
#: The units in :func:`labctl.shipped`'s folder ``systemd``.
UNITS = ("labctl-gc.service", "labctl-gc.timer")
#: What the service's labctl needs to find the same labs.
_VARIABLES = ("LABCTL_HOME", "LABCTL_CACHE")


@dataclass(frozen=True)
class Held:
    """An expired lab that a command is working on, with the text in its lock file."""

    name: str
    holder: str


def find() -> tuple[list[Finding], list[Held]]:
    """The expired labs of this home: those that can be removed, and those that a command holds."""
    found: list[Finding] = []
    held: list[Held] = []
    for name in names():
        try:
            lab = Lab.load(name)
        except LabError:  # `labctl list` reports it; who made it, and until when, cannot be told
            continue
        if not lease.expired(lab):
            continue
        if holder := lock.holder(lock_file(name)):
            held.append(Held(name, holder))
        else:
            parts = tuple(teardown.remains(name))
            found.append(Finding(KIND, name, parts, sparse.used(lab.directory), _removal(name)))
    return found, held


def _removal(name: str) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        try:
            with locked(name, "labctl gc --expired"):
                if exists(name) and not lease.expired(Lab.load(name)):
                    warn("gc", f"{name} was renewed meanwhile; it is left")
                else:
                    teardown.down(name)
        except LabError as error:
            if not lock.holder(lock_file(name)):
                raise
            warn("gc", f"{error.message}; it is left")
        return []

    return remove


# --- the timer -------------------------------------------------------------------------------------


def install(directory: Path) -> list[Path]:
    """Write the units that run ``labctl gc --expired``, for this labctl and this home.

    :raises LabError: the directory does not exist, or cannot be written.
    """
    if not directory.is_dir():
        raise LabError(f"{directory} is not a directory", "use --install-timer /etc/systemd/system")
    run = f"{_environment()}ExecStart={_program()} "
    for name in UNITS:
        text = (shipped("systemd") / name).read_text()
        files.write_atomic(directory / name, text.replace("ExecStart=labctl ", run))
    return [directory / name for name in UNITS]


def _program() -> str:
    """This labctl, as a unit names it."""
    beside = Path(sys.executable).with_name("labctl")
    found = str(beside) if beside.exists() else shutil.which("labctl")
    return _quoted(found) if found else f"{_quoted(sys.executable)} -m labctl"


def _environment() -> str:
    given = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    return "".join(f"Environment={_quoted(each)}\n" for each in given)


def _quoted(text: str) -> str:
    """A word of a unit file: systemd.syntax(7), systemd.unit(5) on specifiers."""
    if text == shlex.quote(text):
        return text.replace("%", "%%")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
