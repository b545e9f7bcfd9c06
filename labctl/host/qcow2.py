"""The header of a qcow2 disk, read before QEMU opens it: QEMU follows the names in it to any file of the host.

The format: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.rst
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files

#: Magic, version, offset and size of the backing file's name, cluster bits, size of the disk, encryption.
_FIRST = struct.Struct(">4sIQIIQI")
#: Where version 2 ends and version 3 goes on.
_FIRST_END = 72
#: Incompatible features in version 3. Known: not closed cleanly, another compression, extended entries.
_FEATURES, _KNOWN = struct.Struct(">Q"), 0b11001
#: Where version 3 has the header's length; the extensions' types and lengths follow the header.
_LENGTH_AT, _LENGTH, _EXTENSION = 100, struct.Struct(">I"), struct.Struct(">II")
_BACKING_FORMAT, _EXTERNAL_DATA, _ENCRYPTION = 0xE2792ACA, 0x44415441, 0x0537BE77
#: QEMU keeps the header and the names in the first cluster, which has at most 2 MiB.
_MAX = 2 * 2**20


@dataclass(frozen=True)
class Header:
    """``size`` in bytes as the machine sees it; the backing file's name and format are empty if there is none."""

    size: int
    backing: str
    backing_format: str


def read(path: Path) -> Header:
    """The header of a disk that stands alone or on a backing file.

    :raises LabError: it is no qcow2 disk, or QEMU would need another file than a backing file to read it.
    """
    try:
        with files.opened(path) as source:
            start = source.read(_MAX)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _header(start, path)
    except (struct.error, UnicodeDecodeError) as error:
        raise LabError(f"{path} is no qcow2 disk: its header is cut off or damaged") from error


def _header(start: bytes, path: Path) -> Header:
    magic, version, offset, length, _, size, encryption = _FIRST.unpack_from(start)
    if magic != b"QFI\xfb" or version not in (2, 3):
        raise LabError(f"{path} is no qcow2 disk")
    (features,) = _FEATURES.unpack_from(start, _FIRST_END) if version == 3 else (0,)
    extensions = dict(_extensions(start, _LENGTH.unpack_from(start, _LENGTH_AT)[0] if version == 3 else _FIRST_END))
    if features & ~_KNOWN or _EXTERNAL_DATA in extensions:
        raise LabError(f"{path} is a qcow2 disk with an external data file, or with features that labctl does not know")
    if encryption or _ENCRYPTION in extensions:
        raise LabError(f"{path} is an encrypted qcow2 disk")
    name = start[offset : offset + length].decode() if offset else ""
    if offset and (len(name.encode()) != length or not 0 < length < 1024):
        raise LabError(f"{path} is no qcow2 disk: the name of its backing file is not in its header")
    return Header(size, name, extensions.get(_BACKING_FORMAT, b"").decode() if offset else "")


def _extensions(start: bytes, at: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while True:
        kind, length = _EXTENSION.unpack_from(start, at)
        if not kind:
            return found
        at += _EXTENSION.size
        found.append((kind, start[at : at + length]))
        at += -(-length // 8) * 8


def check(path: Path, backing: tuple[str, ...] = ()) -> None:
    """Check that a disk stands alone, or on a qcow2 disk with one of these names.

    :raises LabError: it does not, or :func:`read` refuses it.
    """
    found = read(path)
    if found.backing and (found.backing not in backing or found.backing_format != "qcow2"):
        raise LabError(f"{path} has a backing file that labctl did not give it: {found.backing!r}")
