"""Lock files, each held by one process alone or shared by several.

A lock that was removed or replaced while it was opened is not the lock any more, so its inode is compared once it is
held. Only its owner can open one: whoever can open a file can lock it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from labctl.errors import LabError
from labctl.host import home
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
        if not current(path, handle):
            raise refused("")  # its holder removed it at this moment
        handle.seek(0)
        handle.truncate()
        with suppress(OSError):  # on a full disk it is held all the same: what frees space needs none
            os.write(handle.fileno(), f"pid {os.getpid()}{holder and ': '}{holder}".encode(errors="backslashreplace"))
        yield


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does: True; without waiting. A lock file that does not exist is not created."""
    try:
        handle = os.fdopen(os.open(path, os.O_RDWR | _PLAIN), "r+")
    except FileNotFoundError:
        yield True
        return
    except OSError:  # a link or a directory in its place
        yield False
        return
    with handle:
        yield _taken(path, handle)


@contextmanager
def tried(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does, creating its file: True; without waiting."""
    with _open(path) as handle:
        yield _taken(path, handle)


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock alone, waiting for it.

    :param what: what its holder is doing, as in "builds NAME".
    """
    while True:
        with _open(path) as handle:
            wait(handle, what)
            if current(path, handle):
                yield
                return


def shared(path: Path, what: str) -> IO[str]:
    """Share a lock with others who do, waiting for who holds it alone; closing the returned file ends that.

    :param what: what its holder is doing, as in "builds NAME".
    """
    while True:
        handle = _open(path)
        try:
            wait(handle, what, fcntl.LOCK_SH)
            if current(path, handle):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()


def current(path: Path, handle: IO[Any]) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


def _taken(path: Path, handle: IO[Any]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return current(path, handle)


#: A FIFO in its place does not block, and a link is not followed.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _open(path: Path) -> IO[str]:
    home.secure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o600)
        handle = os.fdopen(number, "r+", encoding="utf-8", errors="backslashreplace")
        os.fchmod(handle.fileno(), 0o600)
        return handle
    except OSError as error:
        raise LabError(
            f"labctl cannot write to {path.parent}: {error.strerror}", "the same command with sudo"
        ) from error


def wait(handle: IO[Any], what: str, kind: int = fcntl.LOCK_EX) -> None:
    """Lock an open file; while another process holds the lock, say so and wait.

    :param what: what the other labctl is doing, as in "builds NAME".
    :param kind: ``fcntl.LOCK_SH`` shares it.
    """
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        note("image", f"another labctl {what}; waiting for it")
        fcntl.flock(handle, kind)
