"""Problems in a topology file and their positions, shared by ``load`` and ``check``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from labctl.errors import LabError

#: Path from the top of a topology file to a value: keys and list indexes.
Path = tuple[str | int, ...]
#: Line and column, both counted from 1.
Place = tuple[int, int]

#: How many problems a message lists, and how many known words a message about an unknown one.
MAX_SHOWN, _MAX_WORDS = 50, 40

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True)
class Problem:
    """One problem; ``line`` and ``column`` count from 1, ``path`` is empty for the whole file."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        return where + (f"{self.path}: " if self.path else "") + self.message


class TopologyError(LabError):
    """An invalid topology file.

    :param problems: every problem found; the message lists the first ones, one per line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column)))
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if more := len(self.problems) - len(lines):
            lines.append(f"{self.problems[0].file}: {more} more problems")
        super().__init__("\n".join(lines))


class Positions:
    """The positions of all keys and values of a topology file.

    :param file: file name shown in problems.
    :param keys: position of each mapping key, by the path of its value.
    :param values: position of each value.

    A topology that was not read from a file has no positions: all its problems are at line 1.
    """

    def __init__(
        self, file: str, keys: Mapping[Path, Place] | None = None, values: Mapping[Path, Place] | None = None
    ) -> None:
        self.file = file
        self._keys = keys or {}
        self._values = values or {}

    def __contains__(self, path: Path) -> bool:
        return path in self._values

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        """Return a problem at the position of a path's value, or of its key.

        A value that is not in the file (a default) gets the position of the nearest enclosing one.
        """
        line, column = self._place(path, key)
        return Problem(self.file, line, column, show_path(path), message)

    def _place(self, path: Path, key: bool) -> Place:
        if key and path in self._keys:
            return self._keys[path]
        while path and path not in self._values:
            path = path[:-1]
        return self._values.get(path, (1, 1))


def show_path(path: Path) -> str:
    """Return a path as people write it: ``nodes.compute.runs[2]``, ``fixtures.flavors["m1.nano"]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(shorten(part), ensure_ascii=False)}]"
    return text


def shorten(text: str) -> str:
    """Return text that fits into a message: at most 60 printable characters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """Return the message for an unknown word, with the closest match and the known words."""
    every = list(known)
    names = every[:_MAX_WORDS]
    small = {name.lower(): name for name in names}
    close = get_close_matches(shorten(word).lower(), small, n=1)
    guess = f"; did you mean '{small[close[0]]}'?" if close else ";"
    shown = ", ".join([*names, "..."] if every[_MAX_WORDS:] else names) or "none"
    return f"unknown {kind} {shorten(word)!r}{guess} known: {shown}"
