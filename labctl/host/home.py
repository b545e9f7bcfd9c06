"""labctl's home belongs to its user alone: nobody else reads its records, runs its nodes' programs or holds its locks.

Machines need nothing from others' permissions: containers have their own root file system, and qemu runs as root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, paths
from labctl.progress import note

#: The directories of a home; each is closed by itself where LABCTL_HOME also holds other things.
_OWN = ("locks", "labs", "images", "logs", "cache", "nightly", "tempest", "boxes", "installations", "archives")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def secure() -> None:
    """Create the home for its user alone, or mend its permissions and say so; once in a process.

    :raises LabError: it belongs to another user, or cannot be created; or the system's files cannot name it.
    """
    if odd := next((letter for letter in str(paths.home()) if letter != "\t" and not letter.isprintable()), ""):
        raise LabError(f"LABCTL_HOME has the character {odd!r}, which is not printed", "use another directory")
    for text in _secured(paths.home()):
        note("host", text)


def mended() -> tuple[str, ...]:
    """Mend the permissions of this user's home, if it exists; returns what was changed, the first time."""
    home = paths.home()
    try:
        return _secured(home) if home.stat().st_uid == os.geteuid() else ()
    except OSError:
        return ()


_done: set[Path] = set()


def _secured(home: Path) -> tuple[str, ...]:
    if home in _done:
        return ()
    try:
        files.make_directories(home, 0o700)
        said = [text for path in _closed(home) if (text := _mend(path))]
    except OSError as error:
        if error.errno == errno.EROFS and home.is_dir():  # it can be looked at, and nothing can be mended
            return ()
        raise LabError(f"labctl cannot write to {home}: {error.strerror}", "the same command with sudo") from error
    _done.add(home)
    return tuple(said)


def _closed(home: Path) -> Iterator[Path]:
    """The home, or, where it holds other things too, such as ``/srv``, the directories in it that are labctl's."""
    if all(entry.name in _OWN or not entry.is_dir() for entry in home.iterdir()) and not _shared(home):
        yield home
        return
    for path in (home / name for name in _OWN):
        if not path.is_symlink():
            files.make_directories(path, 0o700)
            yield path


def _shared(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_ISVTX)


def _mend(path: Path) -> str:
    handle = os.open(path, _DIRECTORY)
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            raise LabError(
                f"{path} belongs to another user (id {status.st_uid})",
                f"chown {os.geteuid()} {path}, if you trust what is in it; or another LABCTL_HOME",
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077 == 0:
            return ""
        os.fchmod(handle, 0o700)
        return f"{path} was open to other users ({mode:04o}); its mode is 0700 now"
    finally:
        os.close(handle)
