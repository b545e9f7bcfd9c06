"""A lock file that one process holds at a time; it contains the holder's name."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from labctl.errors import LabError
from labctl.progress import note


@contextmanager
def held(path: Path, holder: str, refused: Callable[[str], LabError]) -> Iterator[None]:
    """Hold a lock while a block runs; the kernel releases it when the process ends.

    :param holder: shown to others, beside the pid.
    :param refused: makes the error from the current holder's text, which is empty when unknown.
    :raises LabError: another process holds it, or its directory is not writable.
    """
    with _open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise refused(handle.read().strip()) from error
        if not path.exists() or path.stat().st_ino != os.fstat(handle.fileno()).st_ino:
            raise refused("")  # its holder removed it at this moment
        handle.seek(0)
        handle.truncate()
        handle.write(f"pid {os.getpid()}{holder and ': '}{holder}")
        handle.flush()
        yield


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise LabError(
            f"labctl cannot write to {path.parent}: {error.strerror}", "the same command with sudo"
        ) from error


def wait(handle: IO[Any], what: str) -> None:
    """Lock an open file; while another process holds the lock, say so and wait.

    :param what: what the other labctl is doing, as in "builds NAME".
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("image", f"another labctl {what}; waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
