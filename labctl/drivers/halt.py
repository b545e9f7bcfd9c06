"""A machine that was told to shut down, known as such also after labctl was killed meanwhile.

It still runs for a moment, and must not be taken for a machine that goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from labctl.errors import LabError
from labctl.host import files
from labctl.records.lab import Lab

_MARK = "halting"


@contextmanager
def told(lab: Lab, node: str) -> Iterator[None]:
    """Keep a mark until the machine has ended; it stays if labctl is killed or the machine does not end."""
    mark = lab.node_directory(node) / _MARK
    with suppress(LabError, OSError):  # a full disk must not keep a machine from ending
        files.write_atomic(mark, "")
    yield
    files.erase(mark)


def forget(lab: Lab, node: str) -> None:
    """Remove the mark of a machine that has ended by itself, before it starts again."""
    files.erase(lab.node_directory(node) / _MARK)


def cut_short(lab: Lab, node: str) -> str:
    """Why a running machine does not go on; empty if it does."""
    return "labctl was killed while it shut down" if (lab.node_directory(node) / _MARK).exists() else ""
