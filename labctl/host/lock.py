"""A file that one process holds at a time, with its holder's name in it."""

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
    """Hold a lock while a block runs; the kernel lets go of it with the process.

    :param holder: what others are told, beside the pid.
    :param refused: makes the error from what the present holder has written, empty when that is not known.
    :raises LabError: another process holds it, or its directory cannot be written.
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
    """Take the lock of an open file; when another process holds it, say so and wait until it lets go.

    :param what: what the other labctl does, as in "builds NAME".
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("image", f"another labctl {what}; waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
