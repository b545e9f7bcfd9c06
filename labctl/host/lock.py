"""Lock files, each held by one process alone or shared by several.

Processes that labctl starts inherit its locks, so the locks of a labctl that was killed are free only when those have
ended too; a labctl that goes on gives a lock up for all of them, one that is interrupted does not.

A lock that was removed or replaced while it was opened is not the lock any more, so its inode is compared once it is
held. Only its owner can open one: whoever can open a file can lock it.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from labctl.errors import LabError
from labctl.host import home
from labctl.progress import note

#: Seconds within which the processes of a labctl that was killed end.
ENDING = 10.0


@contextmanager
def held(path: Path, holder: str, refused: Callable[[str], LabError]) -> Iterator[None]:
    """Hold a lock while a block runs; the kernel releases it when the process ends.

    :param holder: shown to others, beside the pid.
    :param refused: makes the error from the current holder's text, which is empty when unknown.
    :raises LabError: another process holds it, or its directory is not writable.
    """
    with _open(path) as handle:
        _begin(handle, refused)
        if not current(path, handle):
            raise refused("")  # its holder removed it at this moment
        handle.seek(0)
        handle.truncate()
        with suppress(OSError):  # on a full disk it is held all the same: what frees space needs none
            os.write(handle.fileno(), f"pid {os.getpid()}{holder and ': '}{holder}".encode(errors="backslashreplace"))
        with given_up(handle):
            yield


def _begin(handle: IO[str], refused: Callable[[str], LabError]) -> None:
    """Take a lock, waiting only for what a labctl that was killed had started, which is ending."""
    deadline = time.monotonic() + ENDING
    while True:
        try:
            _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip()
            if _runs(holder):
                raise refused(holder) from error
            if time.monotonic() > deadline:
                raise refused(f"processes of a labctl that was killed ({holder})") from error
        time.sleep(0.1)


def _runs(holder: str) -> bool:
    """Whether the process that a lock file names is running; True when it names none."""
    pid = re.match(r"pid (\d+)", holder)
    return pid is None or Path(f"/proc/{pid[1]}").exists()


def holder(path: Path) -> str:
    """Who holds a lock, by the text in its file; empty when nobody does, or only what a killed labctl had started."""
    with free(path, seconds=0) as mine:
        if mine:
            return ""
    try:
        text = path.read_text(errors="backslashreplace").strip()
    except OSError:  # it was removed at this moment, or is no file
        return "another process"
    return (text or "another process") if _runs(text) else ""


@contextmanager
def free(path: Path, seconds: float = ENDING) -> Iterator[bool]:
    """Hold a lock if nobody else does: True. A lock file that does not exist is not created.

    :param seconds: how long to wait for what a labctl that was killed had started, which is ending; for nobody else.
    """
    try:
        handle = os.fdopen(os.open(path, os.O_RDWR | _PLAIN), "r+")
    except FileNotFoundError:
        yield True
        return
    except OSError:  # a link or a directory in its place
        yield False
        return
    with handle, given_up(handle):
        yield _taken(path, handle, seconds)


@contextmanager
def tried(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does, creating its file: True; without waiting."""
    with _open(path) as handle, given_up(handle):
        yield _taken(path, handle)


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock alone, waiting for it.

    :param what: what its holder is doing, as in "builds NAME".
    """
    while True:
        with _open(path) as handle, given_up(handle):
            wait(handle, what)
            if current(path, handle):
                yield
                return


def shared(path: Path, what: str) -> IO[str]:
    """Share a lock with others who do, waiting for who holds it alone; :func:`give_up` ends that.

    :param what: what its holder is doing, as in "builds NAME".
    """
    while True:
        handle = _open(path)
        try:
            wait(handle, what, fcntl.LOCK_SH)
            if current(path, handle):
                return handle
        except BaseException:
            give_up(handle)
            raise
        give_up(handle)


def ending() -> None:
    """Give no lock up any more: this process ends, and its threads and what they started go on until then."""
    _ends.set()


def give_up(handle: IO[Any]) -> None:
    """Give up a lock, also for the processes that inherited it, and close its file."""
    _unlock(handle)
    handle.close()


@contextmanager
def given_up(handle: IO[Any]) -> Iterator[None]:
    """Give up what a block locks in an open file when it ends, also for the processes that inherited it."""
    try:
        yield
    finally:
        _unlock(handle)


def _unlock(handle: IO[Any]) -> None:
    _ours.pop(handle.fileno(), None)
    if _ends.is_set():
        os.set_inheritable(fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _HIGH), True)  # the kernel unlocks it
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _lock(handle: IO[Any], kind: int) -> None:
    fcntl.flock(handle, kind)
    os.set_inheritable(handle.fileno(), True)
    _ours[handle.fileno()] = _identity(handle)


def _identity(handle: IO[Any]) -> tuple[int, int]:
    status = os.fstat(handle.fileno())
    return status.st_dev, status.st_ino


def current(path: Path, handle: IO[Any]) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


def _taken(path: Path, handle: IO[Any], seconds: float = ENDING) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return current(path, handle)
        except BlockingIOError:
            if time.monotonic() >= deadline or not _orphaned(handle):
                return False
        time.sleep(0.1)


def _orphaned(handle: IO[Any]) -> bool:
    """Whether the processes that took a file's lock have all ended: proc(5), /proc/locks; False if that has none."""
    status = os.fstat(handle.fileno())
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    owners = [fields[4] for fields in locks if fields[1] == "FLOCK" and fields[5] == place]
    return bool(owners) and not any(Path(f"/proc/{pid}").exists() for pid in owners)


_ends = threading.Event()
#: The files that this process has locked, by descriptor: one of its threads may wait for another.
_ours: dict[int, tuple[int, int]] = {}
#: Locks are inherited, and programs that write ">&N" into a shell's text need a digit: mmdebstrap's hooks.
_HIGH = 200
#: A FIFO in its place does not block, and a link is not followed.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _open(path: Path) -> IO[str]:
    home.secure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        low = os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o600)
        try:
            number = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        finally:
            os.close(low)
        handle = os.fdopen(number, "r+", encoding="utf-8", errors="backslashreplace")
        os.fchmod(handle.fileno(), 0o600)
        return handle
    except OSError as error:
        raise LabError(
            f"labctl cannot write to {path.parent}: {error.strerror}", "the same command with sudo"
        ) from error


def wait(handle: IO[Any], what: str, kind: int = fcntl.LOCK_EX) -> None:
    """Lock an open file; while another process or thread holds the lock, say so and wait.

    :param what: what its holder is doing, as in "builds NAME".
    :param kind: ``fcntl.LOCK_SH`` shares it.
    """
    try:
        _lock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = "labctl already" if _identity(handle) in list(_ours.values()) else "another labctl"
        note("image", f"{holder} {what}; waiting for it")
        _lock(handle, kind)
