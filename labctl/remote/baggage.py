"""What travels with a command: files that it names go there, files that it writes come back.

The command runs in a directory of its own. A relative path means the same in it as here; any other has a name below
``.labctl/`` there. So whatever a verb writes beside itself or where it was told comes back without knowing the verb.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from labctl.errors import LabError
from labctl.host import files, signature
from labctl.progress import warn
from labctl.topology import given, load
from labctl.topology.known import local

#: Below it, in the command's directory, are paths that would lead out of it.
AWAY = ".labctl"
#: What a command's usage calls a topology, a file that it reads, one or a directory that it writes, a private key, a
#: snapshot; several with | between them.
TOPOLOGY, FILE, TARGET, KEY, SNAPSHOT = "TOPOLOGY", "FILE", "TARGET", "KEY", "SNAPSHOT"


@dataclass
class Baggage:
    """The words of a command as they are said there, and the files that go there or may come back.

    ``sent`` are contents by their path there; ``places`` are paths here by those there that differ or were named.
    """

    words: list[str]
    sent: dict[str, bytes | Path] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)

    def pack(self, sink: IO[bytes]) -> None:
        """Write what goes there, as a tar file."""
        with tarfile.open(fileobj=sink, mode="w|") as archive:
            for directory in sorted({str(PurePosixPath(path).parent) for path in (*self.sent, *self.places)} - {"."}):
                member = tarfile.TarInfo(directory)
                member.type, member.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(member)
            for path, content in self.sent.items():
                _add(archive, path, content)

    def unpack(self, source: IO[bytes]) -> list[Path]:
        """Read what comes back; where it was put.

        Only what the command line names replaces a file, and nothing else is hidden: the rest is left with a warning.

        :raises OSError: a file cannot be written.
        """
        put = []
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                if member.isreg() and (target := self._target(PurePosixPath(member.name))):
                    _write(archive, member, target)
                    put.append(target)
        return put

    def _target(self, path: PurePosixPath) -> Path | None:
        named = next((p for p in (path, *path.parents) if str(p) in self.places), None)
        if path.is_absolute() or ".." in path.parts:
            return None
        if named is not None:
            return self.places[str(named)] / path.relative_to(named)
        target = Path(path)
        if any(part.startswith(".") for part in path.parts):
            warn("host", f"{path} was written there and not asked for: it does not come back")
            return None
        if target.exists():
            warn("host", f"{target} exists here and was not named: the one from there does not replace it")
            return None
        return target

    # --- what goes there -----------------------------------------------------------------------

    def _there(self, value: str) -> str:
        """The name there of a path here."""
        path = PurePosixPath(value)
        if not path.is_absolute() and ".." not in path.parts:
            return str(path)
        known = {str(here): there for there, here in self.places.items()}
        return known.get(str(path), f"{AWAY}/{len(self.places) + 1}/{path.name}")

    def file(self, value: str, written: bool) -> str:
        """Take a file along, unless it is one that the command writes; its name there."""
        here, there = Path(value), self._there(value)
        if not written:
            beside = signature.of(here)
            self.sent |= {there: here} if here.is_file() else {}
            self.sent |= {f"{there}.sig": beside} if beside.is_file() else {}
        self.places[there] = here
        return there

    def topology(self, value: str) -> str:
        """Take a topology along, unless it is standard input, one of labctl's own, or a file of the other machine.

        :raises LabError: it names a file by a relative path, and there is none.
        """
        if value == "-":
            return value
        try:
            here = load.find(value)
        except LabError:
            if "/" in value and not value.startswith("/"):
                raise
            return value
        if here != Path(value) and not local(here):
            return value
        there = self._there(str(here))
        self.sent[there] = given.contents(here).encode()
        return there if here == Path(value) else value


def of(root: Any, words: Sequence[str]) -> Baggage:
    """What travels with a command line.

    :param root: labctl's own commands.
    :raises LabError: a topology that it names cannot be read here.
    """
    command, verbs, rest = root, list[str](), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        verbs.append(rest.pop(0))
        command = command.commands[verbs[-1]]
    baggage = Baggage([])
    names = {} if hasattr(command, "commands") else _names(baggage, command, verbs[-1], rest)
    end = rest.index("--") if "--" in rest else len(rest)
    baggage.words = [*verbs, *(_renamed(word, names) for word in rest[:end]), *rest[end:]]
    return baggage


def _names(baggage: Baggage, command: Any, verb: str, words: list[str]) -> dict[str, str]:
    """The paths of a command line, with their names there."""
    names = {}
    values = command.make_context(verb, list(words), resilient_parsing=True).params
    for parameter in command.params:
        value = values.get(parameter.name)
        for each in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(each, str | Path):
                continue
            kinds = set((parameter.metavar or "").strip("[].").split("|"))
            if TOPOLOGY in kinds:
                names[str(each)] = baggage.topology(str(each))
            elif KEY in kinds:
                raise LabError(
                    f"{each} stays here: no private key is sent to another machine", "the command without it"
                )
            elif _is_file(str(each), kinds):
                names[str(each)] = baggage.file(str(each), written=TARGET in kinds)
    return names


def _is_file(value: str, kinds: set[str]) -> bool:
    """True for a path: not for a URL, nor for another word that may be there instead of a file."""
    if "://" in value or not kinds & {FILE, TARGET}:
        return False
    return SNAPSHOT not in kinds or Path(value).is_file()


def _renamed(word: str, names: dict[str, str]) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{names.get(value, value)}"


def _add(archive: tarfile.TarFile, path: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(path)
    member.mode = 0o600
    if isinstance(content, bytes):
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as source:
        member.size = os.fstat(source.fileno()).st_size
        archive.addfile(member, source)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None
    files.make_directories(target.parent)
    with files.replacing(target) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
