"""The one place that starts processes.

Commands are argument lists, never shell text. Every call has a deadline, and a failure says which
command failed and shows the end of what it printed.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from labctl.errors import DeadlineError, LabError

Argument = str | Path


class CommandError(LabError):
    """A command ended with another status than 0."""

    def __init__(self, message: str, status: int, output: str) -> None:
        super().__init__(message)
        self.status = status
        self.output = output


def _words(command: Sequence[Argument]) -> list[str]:
    return [str(word) for word in command]


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def run(
    command: Sequence[Argument],
    *,
    timeout: float = 60,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed (stdout and stderr apart, as UTF-8, never refused).

    :param timeout: seconds.
    :param log: append the output to this file instead of returning it.
    :raises CommandError: status other than 0, unless ``check`` is off.
    :raises DeadlineError: not finished in time.
    """
    words = _words(command)
    try:
        if log is not None:
            with log.open("a") as sink:
                done = subprocess.run(
                    words,
                    input=stdin,
                    stdout=sink,
                    stderr=sink,
                    text=True,
                    errors="replace",
                    timeout=timeout,
                    env=env,
                    cwd=cwd,
                )
        else:
            done = subprocess.run(
                words, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, env=env, cwd=cwd
            )
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed", "labctl doctor") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"no end after {timeout:g} s: {shlex.join(words)}") from error
    if check and done.returncode != 0:
        said = _tail(log.read_text(errors="replace")) if log is not None else _tail(done.stderr or done.stdout)
        raise CommandError(f"{shlex.join(words)} ended with {done.returncode}:\n{said}", done.returncode, said)
    return done


def output(command: Sequence[Argument], *, timeout: float = 60) -> str:
    """Run a command and return its standard output without the trailing newline."""
    return run(command, timeout=timeout).stdout.rstrip("\n")


def start(
    command: Sequence[Argument],
    *,
    log: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one (its own session, no terminal) and return it."""
    sink: IO[bytes] | int = log if log is not None else subprocess.DEVNULL
    return subprocess.Popen(
        _words(command),
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=sink,
        start_new_session=True,
        env=env,
        pass_fds=tuple(pass_fds),
    )


def interactive(command: Sequence[Argument], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a command on the user's own terminal, without a deadline; return its status."""
    try:
        return subprocess.run(_words(command), env=env, cwd=cwd).returncode
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed", "labctl doctor") from error


def missing(*programs: str) -> list[str]:
    """Return those of the programs that are not on PATH."""
    return [name for name in programs if shutil.which(name) is None]
