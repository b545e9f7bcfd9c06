"""Directories as one file: header, content, and a checksum of both.

    skippable frame     header, JSON
    zstd frames         a POSIX tar archive with extended attributes, numeric owners, and holes
    skippable frame     SHA-256 of every byte before it, JSON

Decompressors skip skippable frames, so other programs read the file as a ``.tar.zst``
(https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.2).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from labctl.errors import DeadlineError, LabError, NoSpaceError
from labctl.host import files, process, tarball
from labctl.host.tarball import Member
from labctl.progress import every

#: One of the sixteen magic numbers of skippable frames.
_MAGIC = 0x184D2A5C
_MARK = struct.pack("<I", _MAGIC)
_FRAME = struct.Struct("<II")
#: A header is a lab's record; a file that claims a longer one is not an archive.
_MAX_HEADER = 16 * 2**20
_CHUNK = 2**20
#: Fast enough not to be the bottleneck; compresses a machine's memory to a third.
_COMPRESSOR = "zstd -T0 -2"
_OPTIONS = ("--format=posix", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--sparse")
#: Bytes by which an archive's content may exceed twice the size that its header claims: headers, and file systems
#: that compress.
_SLACK = 64 * 2**20
#: Bytes that unpacking leaves free on the file system.
_RESERVE = 256 * 2**20
#: Seconds for tar to set the modes and times of directories, after it has read all.
_LAST = 600
#: Seconds between progress reports.
_TELL = 10.0

#: Progress callback: bytes done.
Tell = Callable[[int], None]


class NoArchiveError(LabError):
    """The file is not an archive, or not intact."""


def _frame(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return _FRAME.pack(_MAGIC, len(text)) + text


def _trailer(digest: str) -> bytes:
    return _frame({"sha256": digest})


_TRAILER = len(_trailer("0" * 64))


class Checksum:
    """The checksum of an archive whose bytes pass by, in pieces of any size."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._tail = b""

    def update(self, data: bytes) -> None:
        """Take the next bytes; the last ones so far may be the trailer."""
        seen = self._tail + data
        self._sum.update(seen[:-_TRAILER])
        self._tail = seen[-_TRAILER:]

    def verify(self, name: str) -> None:
        """Compare it with the one at the archive's end, when all bytes have passed by.

        :raises NoArchiveError: the archive is truncated or was changed.
        """
        if len(self._tail) != _TRAILER or not self._tail.startswith(_MARK):
            raise NoArchiveError(f"{name} is truncated: the checksum at its end is missing", "copy or export it again")
        if self._tail != _trailer(self._sum.hexdigest()):
            raise NoArchiveError(f"{name} is damaged: checksum mismatch", "copy or export it again")


def write(
    path: Path, header: Mapping[str, Any], content: Iterable[tuple[Path, str]], tell: Tell, seconds: float
) -> None:
    """Write an archive, readable only by its owner; it gets its name when it is complete.

    :param content: (directory, name in it) pairs; names are kept in the archive.
    :param tell: called with the file's size in bytes.
    :param seconds: the deadline.
    :raises LabError: it cannot be written; nothing is left behind.
    """
    command = ["tar", *_OPTIONS, f"--use-compress-program={_COMPRESSOR}", "-cf", "-"]
    for directory, name in content:
        command += ["-C", str(directory), f"./{name}"]
    if path.exists() and not path.is_file():
        raise LabError(f"{path} cannot be written: it is not a file")
    try:
        with files.replacing(path, 0o600) as sink:
            sink.write(_frame(header))
            sink.flush()
            _follow(command, sink, seconds, lambda: tell(os.fstat(sink.fileno()).st_size))
            sink.seek(0)
            digest = hashlib.sha256()
            while chunk := sink.read(_CHUNK):
                digest.update(chunk)
            sink.write(_trailer(digest.hexdigest()))
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}") from error


def read_header(path: Path, name: str = "") -> Any:
    """An archive's header; the checksum is not verified.

    :param name: what the archive is called in messages; default: its path.
    :raises NoArchiveError: it is not an archive.
    :raises LabError: it cannot be read.
    """
    with _opened(path) as source:
        try:
            return json.loads(source.read(_length(source.read(_FRAME.size))))
        except (struct.error, ValueError, RecursionError) as error:
            raise NoArchiveError(f"{name or path} was not written by labctl snapshot export") from error


#: Bytes that say how long a header is.
BEGINNING = _FRAME.size


def header_end(path: Path, name: str) -> int:
    """Where the header of an archive ends, of which at least the first BEGINNING bytes are there.

    :raises NoArchiveError: it is not an archive.
    """
    with _opened(path) as source:
        try:
            return BEGINNING + _length(source.read(BEGINNING))
        except (struct.error, ValueError) as error:
            raise NoArchiveError(f"{name} was not written by labctl snapshot export") from error


def _length(beginning: bytes) -> int:
    """The length of the header that begins so."""
    magic, length = _FRAME.unpack(beginning)
    if magic != _MAGIC or length > _MAX_HEADER:
        raise ValueError("another file's beginning")
    return int(length)


def version(path: Path) -> tuple[int, ...]:
    """What changes with every change of a file, and with another file in its place.

    :raises LabError: it cannot be read.
    """
    with _opened(path) as source:
        found = os.fstat(source.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def check(path: Path, tell: Tell) -> None:
    """Verify an archive's checksum.

    :param tell: called with the number of bytes read.
    :raises NoArchiveError: it is truncated or was changed.
    """
    found, due = Checksum(), every(_TELL)
    with _opened(path) as source:
        while chunk := source.read(_CHUNK):
            found.update(chunk)
            if due():
                tell(source.tell())
    found.verify(str(path))


def unpack(
    path: Path,
    directory: Path,
    allowed: Callable[[tuple[str, ...], Member], bool],
    size: int,
    without: Iterable[str],
    tell: Callable[[], None],
    seconds: float,
) -> None:
    """Unpack an archive into a directory; each member is checked before tar sees it.

    :param allowed: whether a member, by the parts of its name, may be in it.
    :param size: the bytes of its content on disk, as its header claims.
    :param without: names in it to skip.
    :param tell: called from time to time.
    :param seconds: the deadline.
    :raises NoArchiveError: a member is not allowed, leaves the archive's tree, or there is more than claimed.
    :raises LabError: it cannot be unpacked. In any case files unpacked so far are left.
    """
    unwanted = ["--anchored", *(f"--exclude=./{name}" for name in without)]
    command = ["tar", *_OPTIONS, *unwanted, "-xp", "-C", str(directory)]
    try:
        with _opened(path) as source, _decompressed(source) as content, _tar(command) as sink:
            for piece in _within(tarball.checked(content, allowed), directory, size, tell, seconds):
                sink.write(piece)
    except tarball.RefusedError as error:
        raise NoArchiveError(f"{path} was not written by labctl snapshot export: {error}") from error


@contextmanager
def _decompressed(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """The content of a compressed file."""
    end, begin = os.pipe()
    command = ["sh", "-c", 'exec zstd -dcq <"/proc/self/fd/$0" >"/proc/self/fd/$1"', str(source.fileno()), str(begin)]
    with os.fdopen(end, "rb") as content:
        try:
            child = process.start(command, pass_fds=(source.fileno(), begin))
        finally:
            os.close(begin)
        try:
            yield content
        finally:
            process.follow(child, timeout=0, grace=1)


@contextmanager
def _tar(command: list[str]) -> Iterator[IO[bytes]]:
    """Tar's input.

    :raises LabError: it failed.
    """
    end, begin = os.pipe()
    with files.nameless() as log, os.fdopen(begin, "wb", buffering=0) as sink:
        try:
            child = process.start([*command, "-f", f"/proc/self/fd/{end}"], log=log, pass_fds=(end,))
        finally:
            os.close(end)
        try:
            with suppress(BrokenPipeError):  # tar says why
                yield sink
        except BaseException:
            process.follow(child, timeout=0, grace=1)
            raise
        sink.close()
        _ended(process.follow(child, timeout=_LAST, grace=5), log, _LAST)


def _within(
    pieces: Iterable[bytes], directory: Path, size: int, tell: Callable[[], None], seconds: float
) -> Iterator[bytes]:
    """Pieces of an archive, as long as they keep to its size, to the file system's, and to the deadline."""
    done, limit, looked = 0, 2 * size + _SLACK, 0
    due, until = every(_TELL), time.monotonic() + seconds
    for piece in pieces:
        done += len(piece)
        if done > limit:
            raise tarball.RefusedError("", f"exceeds the {size} bytes that its header claims")
        if done > looked:
            looked = done + _RESERVE // 4
            if shutil.disk_usage(directory).free < _RESERVE:
                raise NoSpaceError(f"no space left on the file system of {directory}", "labctl gc --images")
        if time.monotonic() > until:
            raise DeadlineError(f"unpacking timed out after {seconds:g} s")
        if due():
            tell()
        yield piece


def _opened(path: Path) -> IO[bytes]:
    try:
        return files.opened(path)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error


def _follow(command: list[str], sink: IO[bytes], seconds: float, tell: Callable[[], None]) -> None:
    """Run tar, which appends to a file, until it ends."""
    due = every(_TELL)

    def watch() -> None:
        if due():
            tell()

    words = ["sh", "-c", 'exec "$@" >>"/proc/self/fd/$0"', str(sink.fileno()), *command]
    with files.nameless() as log:
        child = process.start(words, log=log, pass_fds=(sink.fileno(),))
        _ended(process.follow(child, timeout=seconds, grace=5, watch=watch), log, seconds)


def _ended(ended: process.Ended, log: IO[bytes], seconds: float) -> None:
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    if ended.late:
        raise DeadlineError(f"tar timed out after {seconds:g} s")
    if ended.status:
        raise LabError(f"tar failed with status {ended.status}: {said[-500:]}")
