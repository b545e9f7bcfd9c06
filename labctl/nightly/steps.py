"""One step of a cell: a labctl command in a process of its own, with a deadline, its output in a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError
from labctl.host import process

#: Seconds that a command has to end by itself when it is interrupted.
GRACE = 30
#: Characters of what a command said that are told.
SAID = 1600
LABCTL = (sys.executable, "-m", "labctl")


class Interrupted(LabError):
    """The run was told to stop; the step that ran is repeated by ``--resume``."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its status, whether its time was up, what it took, and its output's file."""

    status: int
    late: bool
    seconds: float
    cpu_seconds: float
    log: Path

    @property
    def good(self) -> bool:
        """True when it did what it was to do."""
        return self.status == 0 and not self.late


@dataclass(frozen=True)
class Steps:
    """Runs commands.

    :param command: labctl itself, as words.
    :param stop: says that the run is to stop.
    :param directory: where they run; by default here. Its labctl is the one that is run, if it has one.
    """

    stop: Callable[[], bool]
    command: Sequence[str] = LABCTL
    environment: Mapping[str, str] | None = None
    directory: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment that they see."""
        return {**os.environ, "PYTHONUNBUFFERED": "1", **(self.environment or {})}

    def run(
        self, words: Sequence[str], log: Path, timeout: float, started: Callable[[str], None] = lambda _: None
    ) -> Outcome:
        """Run ``labctl WORDS``, appending its output to a file.

        :param started: gets the process's identity as JSON, with which :func:`end_stray` finds it again.
        :raises Interrupted: the run was told to stop; the command was ended.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            sink.write(f"$ labctl {' '.join(words)}\n".encode())
            sink.flush()
            child = process.start([*self.command, *words], log=sink, env=self.variables, cwd=self.directory)
        try:
            started(json.dumps(process.identity(child.pid)))
        except LabError:
            process.follow(child, timeout=0, grace=GRACE)
            raise
        ended = process.follow(child, timeout=timeout, stop=self.stop, grace=GRACE)
        if ended.stopped:
            raise Interrupted(f"labctl {' '.join(words)} was interrupted", "labctl nightly run --resume")
        return Outcome(ended.status, ended.late, ended.seconds, ended.cpu_seconds, log)


def end_stray(known: str) -> bool:
    """End a command whose run was killed; see :func:`labctl.host.process.end_stray`."""
    return process.end_stray(json.loads(known), GRACE) if known else False


def tail(path: Path, size: int = 4000) -> str:
    """The end of a file, whole lines, at most so many bytes; empty when there is none."""
    try:
        with path.open("rb") as source:
            end = source.seek(0, os.SEEK_END)
            source.seek(max(0, end - size))
            text = source.read().decode(errors="replace")
    except OSError:
        return ""
    return text if end <= size else text.partition("\n")[2]


def said(path: Path) -> str:
    """The error that a command printed last, with its hint; else the last lines of its output.

    Of a long one the first line, which says what failed, and the end, where programs say why.
    """
    lines = tail(path, 20_000).rstrip().splitlines()
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("error: "):
            first, rest = lines[number].removeprefix("error: ")[:SAID], "\n".join(lines[number + 1 :])
            room = max(0, SAID - len(first))
            return f"{first}\n{rest}".rstrip() if len(rest) < room else f"{first}\n…{rest[len(rest) - room :]}"
    return "\n".join(lines[-8:])[-SAID:]
