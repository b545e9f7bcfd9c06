"""Files of the host, written and removed safely.

A write is atomic: the content goes to a new file with a random name in the same directory, is synced to disk and
renamed over the old one, so readers and other writers see a whole version, and a file or link that somebody put in
the way is replaced, never followed (CWE-59). Removal walks down from a directory that labctl owns, by descriptor.

``within`` is a directory whose content others may have made, such as a node's root tree: no link below it is
followed. Such a tree is made anew after a power failure, so its files are not synced one by one.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, TextIO

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
                if within is None:
                    os.fsync(sink.fileno())
                else:  # what a machine sees does not depend on who runs labctl
                    os.fchmod(sink.fileno(), mode)
            os.rename(temporary, path.name, src_dir_fd=place, dst_dir_fd=place)
            if within is None:
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


def rewrite(path: Path, content: str, mode: int = 0o600) -> None:
    """Replace a record's content; on a full disk a shorter one is written over the old, which needs no space.

    :raises OSError: it cannot be written; the old file is unchanged.
    """
    try:
        write_atomic(path, content, mode)
    except OSError as error:
        data = content.encode()
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists() or path.stat().st_size < len(data):
            raise
        handle = os.open(path, os.O_WRONLY | _PLAIN)
        try:
            os.pwrite(handle, data, 0)
            os.ftruncate(handle, len(data))
            os.fsync(handle)
        finally:
            os.close(handle)


def copy(
    source: Path, target: Path, mode: int | None = None, within: Path | None = None, largest: int | None = None
) -> None:
    """Copy a file's content, replacing what has the name.

    :param mode: as in :func:`replacing`; by default the permissions and the time of the source.
    :param largest: refuse a file of more bytes.
    :raises OSError: it cannot be read or written; the old file is unchanged.
    """
    with opened(source) as found:
        status = os.fstat(found.fileno())
        if largest is not None and status.st_size > largest:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(source))
        wanted = status.st_mode & 0o7777 if mode is None else mode
        with replacing(target, wanted, within) as sink:
            shutil.copyfileobj(found, sink, 2**20)
            sink.flush()
            if mode is None:
                os.fchmod(sink.fileno(), wanted)
                os.utime(sink.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_tree(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Copy a directory with all below it, links as links, to a new one.

    :param without: patterns of names to leave out.
    :raises OSError: it cannot be read or written.
    """
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*without))


def move(source: Path, target: Path) -> None:
    """Rename a file, a directory, or a link itself, within one file system; a file of that name is replaced.

    :raises OSError: it cannot be renamed.
    """
    source.rename(target)


def appended(path: Path, mode: int = 0o600, within: Path | None = None) -> IO[bytes]:
    """Open a log to append to, created if missing.

    :raises OSError: it cannot be written, or is a link, a FIFO or a device.
    """
    return os.fdopen(_end(path, mode, within), "ab", buffering=0)


def continued(path: Path, mode: int = 0o600) -> TextIO:
    """Open a log of text to append to, as :func:`appended`."""
    return os.fdopen(_end(path, mode, None), "a", errors="replace")


def _end(path: Path, mode: int, within: Path | None) -> int:
    with directory(path.parent, within) as place:
        handle = os.open(path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | _PLAIN, mode, dir_fd=place)
    return _plain(handle, path)


def kept(text: str, prefix: str, place: Path | None = None) -> Path:
    """Write a log with a new name, only for its user to read.

    :param place: its directory; by default that of temporary files.
    :raises OSError: it cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".log", dir=place)
    with os.fdopen(handle, "w", errors="replace") as sink:
        sink.write(text)
    return Path(name)


@contextmanager
def temporary(prefix: str = "labctl-", place: Path | None = None) -> Iterator[Path]:
    """A new directory that only its user can enter, removed with all in it when the block ends.

    :param place: the directory to make it in; by default that of temporary files.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as name:
        yield Path(name)


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


def make_directories(path: Path, mode: int = 0o777, within: Path | None = None) -> None:
    """Make a directory, and those above it, where there is none.

    :param mode: its permissions, without those that the process's mask takes; in a tree of others exactly these.
    :raises OSError: it cannot be made, or there is something else.
    """
    if within is None:
        path.mkdir(mode, parents=True, exist_ok=True)
        return
    missing = [part for part in (path, *path.parents) if part != within and part.is_relative_to(within)]
    for part in reversed(missing):
        with directory(part.parent, within) as place:
            try:
                os.mkdir(part.name, dir_fd=place)
            except FileExistsError:
                continue
        set_mode(part, mode if part == path else 0o755, within)
    with directory(path, within):
        pass


def new_directory(path: Path, mode: int = 0o777) -> None:
    """Make a directory.

    :raises FileExistsError: there is something of that name.
    :raises OSError: it cannot be made.
    """
    path.mkdir(mode)


def link(path: Path, target: str, within: Path | None = None) -> None:
    """Replace a file with a symbolic link.

    :raises OSError: it cannot be made.
    """
    with directory(path.parent, within) as place:
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=place)
        os.symlink(target, path.name, dir_fd=place)


def name_again(source: Path, target: Path) -> None:
    """Give a file a second name (a hard link), on the same file system.

    :raises OSError: it cannot be given, or something has it.
    """
    os.link(source, target, follow_symlinks=False)


def set_mode(path: Path, mode: int, within: Path | None = None) -> None:
    """Set the permissions of a file or directory.

    :raises OSError: it is a link, or another's.
    """
    with directory(path.parent, within) as place:
        handle = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | _PLAIN, dir_fd=place)
    try:
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def set_owner(path: Path, user: int, group: int, within: Path | None = None) -> None:
    """Set the owner of a file, a directory, or a link itself.

    :raises OSError: only root can.
    """
    with directory(path.parent, within) as place:
        os.chown(path.name, user, group, dir_fd=place, follow_symlinks=False)


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


def erase(path: Path, within: Path | None = None) -> None:
    """Remove what has to be gone, as :func:`remove`.

    :raises OSError: something is left.
    :raises LabError: it is in none of labctl's directories.
    """
    if left := remove(path, within):
        raise OSError(0, f"cannot be removed: {'; '.join(left)}", str(path))


def discard(path: Path) -> None:
    """Remove one file, or a link itself, wherever a user named it; what does not exist is no error.

    :raises OSError: it cannot be removed, or is a directory.
    """
    with suppress(FileNotFoundError), directory(path.parent, None) as place:
        os.unlink(path.name, dir_fd=place)


def nameless() -> IO[bytes]:
    """A file that ends with its descriptor."""
    return tempfile.TemporaryFile()


def remove_empty(path: Path) -> None:
    """Remove a directory that has nothing in it.

    :raises OSError: it has, or there is none.
    """
    path.rmdir()


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
    for root in (paths.images(), paths.cache(), paths.home(), Path(tempfile.gettempdir()).resolve()):
        if path.is_relative_to(root) and path != root and ".." not in path.parts:
            return root
    raise LabError(f"labctl does not remove {path}: it is outside of {paths.home()}")
