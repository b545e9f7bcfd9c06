"""A tar stream from elsewhere, read member by member on its way to tar.

Two programs that read one archive differently are a way past any check, so only what GNU tar itself writes with
``--format=posix --sparse`` is let through: ustar headers, each with at most one pax header of known keys
(https://www.gnu.org/software/tar/manual/html_node/Standard.html), sparse files in version 1.0 of its format
(https://www.gnu.org/software/tar/manual/html_node/PAX-1.html).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

BLOCK = 512
#: More members than any lab's export has.
MAX_MEMBERS = 2_000_000
#: Bytes of a pax header, of a sparse file's map, and of a name.
_MAX_HEADER, _MAX_MAP, _MAX_NAME = 2**20, 2**24, 4095
_CHUNK = 2**20
_FILE, _HARD_LINK, _LINK, _CHARACTER, _DIRECTORY, _FIFO, _PAX = b"0", b"1", b"2", b"3", b"5", b"6", b"x"
_TYPES = (_FILE, _HARD_LINK, _LINK, _CHARACTER, _DIRECTORY, _FIFO)
_KEYS = {"path", "linkpath", "size", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname"}
_SPARSE = {"GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize"}
_ATTRIBUTE = "SCHILY.xattr."
_CAPABILITY = f"{_ATTRIBUTE}security.capability"


class RefusedError(Exception):
    """A member that is not let through: its name, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"its member {name!r} {why}")


@dataclass(frozen=True)
class Member:
    """One entry of an archive; ``device`` is major and minor number."""

    name: str
    kind: bytes
    mode: int
    link: str
    device: tuple[int, int]
    capable: bool

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return self.kind == _FILE

    @property
    def is_directory(self) -> bool:
        """A directory."""
        return self.kind == _DIRECTORY

    @property
    def is_device(self) -> bool:
        """A character device; block devices are refused anyway."""
        return self.kind == _CHARACTER

    @property
    def gives_rights(self) -> bool:
        """A file whose programs run with more rights than their caller's."""
        return not self.is_directory and (self.mode & 0o6000 != 0 or self.capable)


def checked(source: IO[bytes], allowed: Callable[[tuple[str, ...], Member], bool]) -> Iterator[bytes]:
    """Let an archive through, piece by piece; each piece belongs to a member that was let through as a whole.

    :param allowed: whether a member, by the parts of its name, may be in the archive.
    :raises RefusedError: a member is not allowed, leaves the archive's tree, or is written as tar does not write it.
    """
    links: set[int] = set()
    for _ in range(MAX_MEMBERS):
        head = _read(source, BLOCK)
        if not any(head):
            yield bytes(2 * BLOCK)
            return
        more, keys = b"", {}
        if head[156:157] == _PAX:
            _intact(head)
            size = _size(head, {}, _MAX_HEADER)
            more = head + _read(source, _padded(size))
            keys = _keys(more[BLOCK : BLOCK + size])
            head = _read(source, BLOCK)
        member = _member(head, keys)
        parts = _inside(member.name, member.name, links)
        if not allowed(parts, member):
            raise RefusedError(member.name, "does not belong in one")
        if member.kind == _LINK:
            links.add(hash(parts))
        elif member.kind == _HARD_LINK:
            target = _inside(member.link, member.name, links)
            if hash(target) in links or not allowed(target, member):
                raise RefusedError(member.name, "is a link to no file of it")
        size = _size(head, keys, 2**62)
        if size and not member.is_file:
            raise RefusedError(member.name, "has content")
        sparse = _map(source, size, member.name) if _SPARSE & keys.keys() else b""
        yield more + head + sparse
        yield from _content(source, _padded(size) - len(sparse))
    raise RefusedError("", f"is one of more than {MAX_MEMBERS}")


def _content(source: IO[bytes], left: int) -> Iterator[bytes]:
    while left:
        chunk = _read(source, min(_CHUNK, left))
        left -= len(chunk)
        yield chunk


def _read(source: IO[bytes], size: int) -> bytes:
    found = source.read(size)
    if len(found) < size:
        raise RefusedError("", "is cut off")
    return found


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _number(field: bytes) -> int:
    """A number as tar writes it: octal digits, filled up with zeros, and a null byte."""
    if not re.fullmatch(rb"[0-7]+\0", field):
        raise RefusedError(repr(field), "is no number")
    return int(field[:-1], 8)


def _size(head: bytes, keys: Mapping[str, str], most: int) -> int:
    size = int(keys["size"]) if "size" in keys else _number(head[124:136])
    if size > most:
        raise RefusedError(_text(head[:100]), f"has {size} bytes")
    return size


def _keys(content: bytes) -> dict[str, str]:
    """The records of a pax header: ``LENGTH KEY=VALUE`` and a newline each."""
    found: dict[str, str] = {}
    while content:
        start = re.match(rb"([1-9][0-9]{0,6}) ([^=\0\n]+)=", content)
        length = int(start[1]) if start else 0
        if start is None or not start.end() < length <= len(content) or content[length - 1 : length] != b"\n":
            raise RefusedError(repr(content[:40]), "is no pax record")
        key, value = start[2].decode(errors="surrogateescape"), content[start.end() : length - 1]
        if not (key in _KEYS or key in _SPARSE or key.startswith(_ATTRIBUTE)) or key in found:
            raise RefusedError(key, "is a key that it does not have, or twice")
        found[key] = value.decode(errors="surrogateescape")
        content = content[length:]
    if not re.fullmatch(r"[0-9]{1,15}", found.get("size", "0"), re.ASCII):
        raise RefusedError(found["size"], "is no size")
    if _SPARSE & found.keys() and (
        not found.keys() >= _SPARSE or (found["GNU.sparse.major"], found["GNU.sparse.minor"]) != ("1", "0")
    ):
        raise RefusedError(found.get("GNU.sparse.name", ""), "is in an unknown sparse format")
    return found


def _member(head: bytes, keys: Mapping[str, str]) -> Member:
    """A member by its header; raises for anything that tar would not take for the same."""
    name, prefix = _text(head[:100]), _text(head[345:500])
    name = keys.get("GNU.sparse.name", keys.get("path", f"{prefix}/{name}" if prefix else name))
    kind = head[156:157]
    _intact(head)
    if kind not in _TYPES:
        raise RefusedError(name, f"is of a kind that it does not have: {kind!r}")
    if _SPARSE & keys.keys() and kind != _FILE:
        raise RefusedError(name, "is a sparse file and no file")
    device = (_number(head[329:337]), _number(head[337:345])) if kind == _CHARACTER else (0, 0)
    link = keys.get("linkpath", _text(head[157:257])) if kind in (_LINK, _HARD_LINK) else ""
    name = name.removesuffix("/") if kind == _DIRECTORY else name
    return Member(name, kind, _number(head[100:108]), link, device, _CAPABILITY in keys)


def _intact(head: bytes) -> None:
    """Check the header's mark and sum; where tar finds others, it looks for the next header in the content."""
    summed = sum(head) - sum(head[148:156]) + 8 * ord(" ")
    if head[257:265] != b"ustar\x0000" or head[148:156] != b"%06o\0 " % summed:
        raise RefusedError(_text(head[:100]), "has a header that tar does not write")


def _inside(name: str, said: str, links: set[int]) -> tuple[str, ...]:
    """The parts of a name that is in the archive's tree, and below no link of it."""
    parts = tuple(name.removeprefix("./").split("/"))
    if not name.startswith("./") or {"", ".", ".."} & set(parts) or "\0" in name or len(name) > _MAX_NAME:
        raise RefusedError(said, "is outside of the lab")
    if any(hash(parts[:end]) in links for end in range(1, len(parts))):
        raise RefusedError(said, "is below a link")
    return parts


def _map(source: IO[bytes], size: int, name: str) -> bytes:
    """The map of a sparse file at the beginning of its content: as many regions as it holds, and their content.

    Tar believes it, and would take the content behind it for the next member.
    """
    blocks: list[bytes] = []
    lines, needed = 0, 1
    while lines < needed:
        if len(blocks) * BLOCK >= min(size, _MAX_MAP):
            raise RefusedError(name, "has a sparse map that does not end")
        blocks.append(_read(source, BLOCK))
        lines += blocks[-1].count(b"\n")
        needed = 1 + 2 * _digits(blocks[0].partition(b"\n")[0], name)
    numbers = [_digits(line, name) for line in b"".join(blocks).split(b"\n")[:needed]]
    regions = [region for region in numbers[2::2] if region]
    if len(blocks) * BLOCK + sum(regions) != size or any(region % BLOCK for region in regions[:-1]):
        raise RefusedError(name, "has a sparse map of something else")
    return b"".join(blocks)


def _digits(line: bytes, name: str) -> int:
    if not re.fullmatch(rb"[0-9]{1,15}", line):
        raise RefusedError(name, "has a sparse map of something else")
    return int(line)
