"""Files of the host, written and removed safely.

A write is atomic: the content goes to a new file with a random name in the same directory, is synced to disk and
renamed over the old one, so readers and other writers see a whole version, and a file or link that somebody put in
the way is replaced, never followed (CWE-59). Removal walks down from a directory that labctl owns, by descriptor.

``within`` is a directory whose content others may have made, such as a node's root tree: no link below it is
followed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from labctl.errors import LabError
from labctl.host import paths

#: End of the names of files that are being written; a killed process leaves them.
UNFINISHED = ".new~"
#: More than any file that is read whole, in bytes.
_SMALL = 2**16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


@contextmanager
def directory(path: Path, within: Path | None) -> Iterator[int]:
    """A descriptor of a directory.

    :param within: the directory from where on no link is followed; None to follow all, as its user wrote them.
    :raises OSError: it does not exist, or there is a link or a file on the way.
    """
    handle = os.open(within or path, _DIRECTORY)
    try:
        for name in path.relative_to(within).parts if within else ():
            if name == "..":
                raise ValueError(f"{path} is not below {within}")
            below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, mode: int = 0o644, within: Path | None = None) -> Iterator[BinaryIO]:
    """Write a file piece by piece; it gets its name, replacing what has it, when the block ends without an error.

    :param mode: its permissions, without those that the process's mask takes; in a tree of others exactly these.
    :raises OSError: it cannot be written; the old file is unchanged, and nothing else is left.
    """
    with directory(path.parent, within) as place:
        temporary = f".{path.name[:200]}.{secrets.token_hex(8)}{UNFINISHED}"
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN, mode, dir_fd=place)
        try:
            with os.fdopen(handle, "w+b") as sink:
                yield sink
                sink.flush()
                if within is not None:  # what a machine sees does not depend on who runs labctl
                    os.fchmod(sink.fileno(), mode)
                os.fsync(sink.fileno())
            os.rename(temporary, path.name, src_dir_fd=place, dst_dir_fd=place)
            os.fsync(place)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=place)
            raise


def write_atomic(path: Path, content: str | bytes, mode: int = 0o644, within: Path | None = None) -> None:
    """Replace a file's content.

    :param mode: as in :func:`replacing`.
    :raises OSError: it cannot be written; the old file is unchanged.
    """
    with replacing(path, mode, within) as sink:
        sink.write(content.encode() if isinstance(content, str) else content)


def appended(path: Path, mode: int = 0o600, within: Path | None = None) -> IO[bytes]:
    """Open a log to append to, created if missing.

    :raises OSError: it cannot be written, or is a link, a FIFO or a device.
    """
    with directory(path.parent, within) as place:
        handle = os.open(path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | _PLAIN, mode, dir_fd=place)
    return os.fdopen(_plain(handle, path), "ab", buffering=0)


def opened(path: Path) -> BinaryIO:
    """Open a file that somebody named, to read it.

    :raises OSError: it cannot be read, or is a directory, a FIFO, a socket or a device.
    """
    return os.fdopen(_plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), path), "rb")


def content(path: Path, within: Path) -> str | None:
    """The text of a small file in a tree of others; None if there is no plain file of that name."""
    try:
        with directory(path.parent, within) as place:
            handle = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | _PLAIN, dir_fd=place)
        with os.fdopen(_plain(handle, path), "rb") as source:
            return source.read(_SMALL).decode(errors="replace")
    except OSError:
        return None


def make_directory(path: Path, mode: int, within: Path) -> None:
    """Make a directory if there is none.

    :raises OSError: it cannot be made, or there is something else.
    """
    with directory(path.parent, within) as place, suppress(FileExistsError):
        os.mkdir(path.name, mode, dir_fd=place)
    with directory(path, within):
        pass


def link(path: Path, target: str, within: Path) -> None:
    """Replace a file with a symbolic link.

    :raises OSError: it cannot be made.
    """
    with directory(path.parent, within) as place:
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=place)
        os.symlink(target, path.name, dir_fd=place)


def _plain(handle: int, path: Path) -> int:
    """A descriptor of a regular file; any other is closed."""
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind):
        return handle
    os.close(handle)
    raise OSError(0, f"it is {_KINDS.get(stat.S_IFMT(kind), 'not a file')}", str(path))


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def remove(path: Path, within: Path | None = None) -> list[str]:
    """Remove a file, a link itself, or a directory with all below it; what does not exist is no error.

    :param within: the directory it has to be in; by default labctl's home, its cache, or the directory of temporary
        files.
    :return: what could not be removed, with the reason; empty when all is gone.
    :raises LabError: it is in none of these.
    """
    root = within or _owner(path)
    try:
        with directory(path.parent, root) as place:
            if stat.S_ISDIR(os.stat(path.name, dir_fd=place, follow_symlinks=False).st_mode):
                return _remove_tree(path, place)
            os.unlink(path.name, dir_fd=place)
    except FileNotFoundError:
        pass
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return []


def _remove_tree(path: Path, place: int) -> list[str]:
    left: list[str] = []

    def failed(_: object, inner: str, error: tuple[type, BaseException, object]) -> None:
        if not isinstance(error[1], FileNotFoundError) and len(left) < 3:
            left.append(f"{path.parent / inner}: {getattr(error[1], 'strerror', error[1])}")

    shutil.rmtree(path.name, onerror=failed, dir_fd=place)
    return left


def _owner(path: Path) -> Path:
    """The directory of labctl's that a path is in, whatever links it names.

    :raises LabError: none.
    """
    for root in (paths.home(), paths.cache(), Path(tempfile.gettempdir()).resolve()):
        if path.is_relative_to(root) and path != root and ".." not in path.parts:
            return root
    raise LabError(f"labctl does not remove {path}: it is outside of {paths.home()}")
