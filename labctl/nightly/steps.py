"""One step of a cell: a labctl command in its own process, with a deadline, its output in a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, identity, process

#: Grace period in seconds for an interrupted command to exit.
GRACE = 30
#: Characters of a command's output that are shown.
SAID = 1600
#: -P: nothing is imported from the working directory.
LABCTL = (sys.executable, "-P", "-m", "labctl")


class Interrupted(LabError):
    """The run was stopped; ``--resume`` repeats the step that ran."""


@dataclass(frozen=True)
class Outcome:
    """Result of a command: exit status, whether it timed out, the time it took, and its log file."""

    status: int
    late: bool
    seconds: float
    cpu_seconds: float
    log: Path

    @property
    def good(self) -> bool:
        """True when it succeeded in time."""
        return self.status == 0 and not self.late


@dataclass(frozen=True)
class Steps:
    """Runs commands.

    :param command: labctl itself, as words.
    :param stop: returns True when the run must stop.
    :param directory: their working directory, by default the current one; a labctl in it takes precedence.
    """

    stop: Callable[[], bool]
    command: Sequence[str] = LABCTL
    environment: Mapping[str, str] | None = None
    directory: Path | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the commands."""
        first = {"PYTHONPATH": str(self.directory)} if self.directory else {}
        return {**os.environ, "PYTHONUNBUFFERED": "1", **first, **(self.environment or {})}

    def silently(self, words: Sequence[str], timeout: float) -> None:
        """Run ``labctl WORDS`` without writing anything: for a full disk.

        :raises Interrupted: the run was stopped, and the command ended.
        """
        child = process.start([*self.command, *words], env=self.variables, cwd=self.directory)
        self._ended(process.follow(child, timeout=timeout, stop=self.stop, grace=GRACE), words)

    def run(
        self, words: Sequence[str], log: Path, timeout: float, started: Callable[[str], None] = lambda _: None
    ) -> Outcome:
        """Run ``labctl WORDS``, appending its output to a file.

        :param started: gets the process's identity as JSON, with which :func:`end_stray` finds it again.
        :raises Interrupted: the run was stopped, and the command ended.
        """
        files.make_directories(log.parent)
        with files.appended(log, 0o644) as sink:
            sink.write(f"$ labctl {' '.join(words)}\n".encode())
            sink.flush()
            child = process.start([*self.command, *words], log=sink, env=self.variables, cwd=self.directory)
        try:
            started(json.dumps(identity.of(child.pid)))
        except LabError:
            process.follow(child, timeout=0, grace=GRACE)
            raise
        ended = self._ended(process.follow(child, timeout=timeout, stop=self.stop, grace=GRACE), words)
        return Outcome(ended.status, ended.late, ended.seconds, ended.cpu_seconds, log)

    @staticmethod
    def _ended(ended: process.Ended, words: Sequence[str]) -> process.Ended:
        if ended.stopped:
            raise Interrupted(f"labctl {' '.join(words)} was interrupted", "labctl nightly run --resume")
        return ended


def end_stray(known: str) -> bool:
    """End a leftover command of a killed run; see :func:`labctl.host.process.end_stray`."""
    return process.end_stray(json.loads(known), GRACE) if known else False


def tail(path: Path, size: int = 4000) -> str:
    """The last whole lines of a file, at most ``size`` bytes; empty when the file is missing."""
    try:
        with path.open("rb") as source:
            end = source.seek(0, os.SEEK_END)
            source.seek(max(0, end - size))
            text = source.read().decode(errors="replace")
    except OSError:
        return ""
    return text if end <= size else text.partition("\n")[2]


def said(path: Path) -> str:
    """The last error that a command printed, with its hint; else the last lines of its output.

    A long error is cut to its first line, which says what failed, and its end, where programs say why.
    """
    lines = tail(path, 20_000).rstrip().splitlines()
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("error: "):
            first, rest = lines[number].removeprefix("error: ")[:SAID], "\n".join(lines[number + 1 :])
            room = max(0, SAID - len(first))
            return f"{first}\n{rest}".rstrip() if len(rest) < room else f"{first}\n…{rest[len(rest) - room :]}"
    return "\n".join(lines[-8:])[-SAID:]
