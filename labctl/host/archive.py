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
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from labctl.errors import DeadlineError, LabError
from labctl.host import files, process
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


def write(
    path: Path, header: Mapping[str, Any], content: Iterable[tuple[Path, str]], tell: Tell, seconds: float
) -> None:
    """Write an archive, readable only by its owner; it gets its name when it is complete.

    :param content: (directory, name in it) pairs; names are kept in the archive.
    :param tell: called with the file's size in bytes.
    :param seconds: the deadline.
    :raises LabError: it cannot be written; nothing is left behind.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as sink:
            sink.write(_frame(header))
        command = ["tar", *_OPTIONS, f"--use-compress-program={_COMPRESSOR}", "-cf", "-"]
        for directory, name in content:
            command += ["-C", str(directory), f"./{name}"]
        _follow(["sh", "-c", 'to=$0; exec "$@" >>"$to"', str(new), *command], seconds, lambda: tell(new.stat().st_size))
        with new.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        with new.open("ab") as sink:
            sink.write(_trailer(digest))
            os.fsync(sink.fileno())
        new.replace(path)
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)


def read_header(path: Path) -> Any:
    """An archive's header; the checksum is not verified.

    :raises NoArchiveError: it is not an archive.
    :raises LabError: it cannot be read.
    """
    with _opened(path) as source:
        try:
            magic, length = _FRAME.unpack(source.read(_FRAME.size))
            if magic != _MAGIC or length > _MAX_HEADER:
                raise ValueError("another file's beginning")
            return json.loads(source.read(length))
        except (struct.error, ValueError) as error:
            raise NoArchiveError(f"{path} was not written by labctl snapshot export") from error


def check(path: Path, tell: Tell) -> None:
    """Verify an archive's checksum.

    :param tell: called with the number of bytes read.
    :raises NoArchiveError: it is truncated or was changed.
    """
    with _opened(path) as source:
        length = max(0, os.fstat(source.fileno()).st_size - _TRAILER)
        source.seek(length)
        trailer = source.read()
        if len(trailer) != _TRAILER or not trailer.startswith(_MARK):
            raise NoArchiveError(f"{path} is truncated: the checksum at its end is missing", "copy or export it again")
        source.seek(0)
        if trailer != _trailer(_digest(source, length, tell)):
            raise NoArchiveError(f"{path} is damaged: checksum mismatch", "copy or export it again")


def unpack(path: Path, directory: Path, without: Iterable[str], tell: Callable[[], None], seconds: float) -> None:
    """Unpack an archive into a directory.

    :param without: names in it to skip.
    :param tell: called from time to time.
    :param seconds: the deadline.
    :raises LabError: it cannot be unpacked; files unpacked so far are left.
    """
    unwanted = ["--anchored", *(f"--exclude=./{name}" for name in without)]
    command = ["tar", *_OPTIONS, "--use-compress-program=zstd", *unwanted, "-xpf", str(path), "-C", str(directory)]
    _follow(command, seconds, tell)


def _opened(path: Path) -> IO[bytes]:
    try:
        return files.opened(path)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error


def _digest(source: IO[bytes], length: int, tell: Tell) -> str:
    found, left, due = hashlib.sha256(), length, every(_TELL)
    while left and (chunk := source.read(min(_CHUNK, left))):
        found.update(chunk)
        left -= len(chunk)
        if due():
            tell(length - left)
    return found.hexdigest()


def _follow(command: list[str], seconds: float, tell: Callable[[], None]) -> None:
    """Run tar until it ends."""
    due = every(_TELL)

    def watch() -> None:
        if due():
            tell()

    with tempfile.TemporaryFile() as log:
        ended = process.follow(process.start(command, log=log), timeout=seconds, grace=5, watch=watch)
        log.seek(0)
        said = log.read().decode(errors="replace").strip()
    if ended.late:
        raise DeadlineError(f"tar timed out after {seconds:g} s")
    if ended.status:
        raise LabError(f"tar failed with status {ended.status}: {said[-500:]}")
