"""The one place that starts processes.

Commands are argument lists, never shell text. Every call has a deadline, and a failure says which
command failed and shows the end of what it printed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from labctl.errors import DeadlineError, LabError

Argument = str | Path
#: What libraries raise that start processes by themselves: ``returncode``, ``cmd``.
Failed = subprocess.CalledProcessError


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
    cwd: Path | None = None,
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
        cwd=cwd,
    )


@dataclass(frozen=True)
class Ended:
    """How a started process ended: ``late`` when its time was up, ``stopped`` when it was told to.

    CPU seconds are its own and those of the children it has waited for.
    """

    status: int
    seconds: float
    cpu_seconds: float
    late: bool = False
    stopped: bool = False


def follow(
    child: subprocess.Popen[bytes],
    *,
    timeout: float,
    stop: Callable[[], bool] = lambda: False,
    grace: float = 30,
    watch: Callable[[], None] = lambda: None,
) -> Ended:
    """Wait for a process of :func:`start`; when its time is up or ``stop`` says so, end it and all of its session's.

    It is ended too when the wait is broken off, as by ^C.

    :param timeout: seconds.
    :param grace: seconds between the signal INT and KILL.
    :param watch: called about ten times a second until it has ended, and once more.
    """
    try:
        return _followed(child, timeout, stop, grace, watch)
    except BaseException:
        _followed(child, 0, lambda: False, grace, lambda: None)
        raise


def _followed(
    child: subprocess.Popen[bytes],
    timeout: float,
    stop: Callable[[], bool],
    grace: float,
    watch: Callable[[], None],
) -> Ended:
    began = time.monotonic()
    late = stopped = False
    killed_at = 0.0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        watch()
        if pid:
            break
        now = time.monotonic()
        if not killed_at and ((late := now - began > timeout) or (stopped := stop())):
            _signal(child.pid, signal.SIGINT)
            killed_at = now + grace
        elif killed_at and now > killed_at:
            _signal(child.pid, signal.SIGKILL)
        time.sleep(0.1)
    child.returncode = os.waitstatus_to_exitcode(status)
    _signal(child.pid, signal.SIGKILL)  # whatever of it is left
    seconds = time.monotonic() - began
    return Ended(child.returncode, seconds, usage.ru_utime + usage.ru_stime, late, stopped)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def start_time(pid: int) -> str:
    """The kernel's start time of a process: with the pid, an identity that is never used twice in a boot.

    Empty for one that has ended, also while it waits to be reaped by this very process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def identity(pid: int) -> dict[str, str | int]:
    """What tells a running process from any other that ever had its number; empty when there is none."""
    if not (start := start_time(pid)):
        return {}
    return {"pid": pid, "start": start, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}


def end_stray(known: Mapping[str, str | int], grace: float = 30) -> bool:
    """End a process of :func:`start` whose parent was killed, with its session; False when it has ended.

    :param known: its :func:`identity`.
    :param grace: seconds between the signal INT and KILL.
    """
    if not known or identity(int(known["pid"])) != known:
        return False
    deadline = time.monotonic() + grace
    _signal(int(known["pid"]), signal.SIGINT)
    while identity(int(known["pid"])) == known and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(int(known["pid"]), signal.SIGKILL)
    return True


def interactive(command: Sequence[Argument], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a command on the user's own terminal, without a deadline; return its status."""
    try:
        return subprocess.run(_words(command), env=env, cwd=cwd).returncode
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed", "labctl doctor") from error


def missing(*programs: str) -> list[str]:
    """Return those of the programs that are not on PATH."""
    return [name for name in programs if shutil.which(name) is None]
