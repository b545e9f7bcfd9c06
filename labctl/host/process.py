"""The only module that starts processes.

Commands are argument lists, never shell text. Every call has a deadline. The first line of a failure says what
failed and why, quoting the program's own error line; if the output is too long for a message, it names a log.

The kernel ends a process with the thread that started it, and so with labctl; it inherits labctl's locks, so none is
free before it has ended (docs/decisions.md). What should outlive labctl says so.
"""

from __future__ import annotations

import os
import selectors
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
from labctl.host import files, identity, paths
from labctl.host.telling import last_words

Argument = str | Path
#: Raised by libraries that start processes themselves: ``returncode``, ``cmd``.
Failed = subprocess.CalledProcessError
#: A process that was started and is not waited for yet.
Child = subprocess.Popen[bytes]
PIPE, NOTHING = subprocess.PIPE, subprocess.DEVNULL
#: Raised by a wait that took too long.
Late = subprocess.TimeoutExpired

#: Runs a command with a signal that the kernel sends it when the thread that started it ends.
BOUND = (shutil.which("setpriv") or "setpriv", "--pdeathsig")
#: Runs a command that the kernel kills when the thread that started it ends; its own children are not killed. It is
#: not run if the process that started it, the next word, has ended before.
MORTAL = (*BOUND, "KILL", "--", "/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
#: A message shows at most this many characters of a command line, and lines of its output.
SHOWN, LINES = 200, 12


class CommandError(LabError):
    """A command failed with a status: ``output`` is the end of its output, ``reason`` the line of it that says why."""

    def __init__(self, message: str, status: int, output: str, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.output = output
        self.reason = reason


def without_proxies() -> dict[str, str]:
    """This process's environment without the host's proxies: none reaches a lab's names and addresses."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _words(command: Sequence[Argument]) -> list[str]:
    return [str(word) for word in command]


def _mortal(words: list[str], env: Mapping[str, str] | None) -> list[str]:
    """A command that ends with this process; FileNotFoundError when there is no such program."""
    if shutil.which(words[0], path=(os.environ if env is None else env).get("PATH")) is None:
        raise FileNotFoundError(words[0])
    return [*MORTAL, str(os.getpid()), *words]


def _tail(text: str, lines: int = LINES) -> str:
    return "\n".join(line[:SHOWN] for line in text.strip().splitlines()[-lines:])


def shown(command: Sequence[Argument]) -> str:
    """A command line as shown in messages."""
    line = shlex.join(_words(command))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 2]} …"


def _failure(name: str, words: list[str], status: int, said: str, log: Path | None) -> CommandError:
    """The error of a failed command; output too long for the message goes to a log."""
    tail = _tail(said)
    if log is None and (len(shlex.join(words)) > SHOWN or len(said.strip()) > len(tail)):
        log = _kept(words, said)
    reason = last_words(said)
    parts = [f"{name or shown(words)} failed with status {status}: {reason}"]
    if tail and tail != reason:
        parts.append(tail)
    if log is not None:
        parts.append(f"full log: {log}")
    return CommandError("\n".join(parts), status, tail, reason)


def _kept(words: list[str], said: str) -> Path | None:
    """Log a command line and its output, for a message that shows only parts of them."""
    with suppress(OSError):
        files.make_directories(paths.logs())
        return files.kept(f"$ {shlex.join(words)}\n{said}", f"{Path(words[0]).name}-", paths.logs())
    return None


@dataclass(frozen=True)
class Listener:
    """Callbacks while a command runs."""

    #: called with each line of output; True keeps the line out of the log
    line: Callable[[str], bool]
    #: called about once a second; an exception it raises ends the command
    tick: Callable[[], None] = lambda: None


def run(
    command: Sequence[Argument],
    *,
    timeout: float = 60,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    check: bool = True,
    name: str = "",
    listener: Listener | None = None,
    outlives: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output (stdout and stderr separate, as UTF-8, invalid bytes replaced).

    :param timeout: seconds.
    :param log: append the output to this file instead of returning it.
    :param name: the command's name in messages; by default its command line.
    :param listener: gets the output line by line before it is written to ``log``.
    :param outlives: what it starts should outlive this process: a daemon.
    :raises CommandError: status other than 0, unless ``check`` is off.
    :raises DeadlineError: timed out.
    """
    words = _words(command)
    begin = 0

    def plain(out: IO[str] | int, err: IO[str] | int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            started,
            input=stdin,
            stdout=out,
            stderr=err,
            text=True,
            errors="replace",
            close_fds=outlives,
            timeout=timeout,
            env=env,
            cwd=cwd,
        )

    try:
        started = words if outlives else _mortal(words, env)
        if log is not None:
            with files.continued(log, 0o644) as sink:
                sink.write(f"$ {shlex.join(words)}\n")
                sink.flush()
                begin = sink.tell()
                if listener is not None:
                    status = _heard(started, sink, timeout, listener, env, cwd)
                    done = subprocess.CompletedProcess(words, status, "", "")
                else:
                    done = plain(sink, sink)
        else:
            done = plain(subprocess.PIPE, subprocess.PIPE)
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed", "labctl doctor") from error
    except subprocess.TimeoutExpired as error:
        raise _late(name, words, timeout, log, begin) from error
    if check and done.returncode != 0:
        said = _since(log, begin) if log is not None else done.stderr.strip() or done.stdout
        raise _failure(name, words, done.returncode, said, log)
    return done


def _late(name: str, words: list[str], timeout: float, log: Path | None, begin: int) -> DeadlineError:
    said = _since(log, begin).strip() if log is not None else ""
    last = f"; last: {said.splitlines()[-1][:SHOWN]}" if said else ""
    if log is None and len(shlex.join(words)) > SHOWN:
        log = _kept(words, "")
    where = f"\nfull log: {log}" if log is not None else ""
    return DeadlineError(f"timed out after {timeout:g} s: {name or shown(words)}{last}{where}")


def _since(log: Path, begin: int) -> str:
    with log.open(errors="replace") as source:
        source.seek(begin)
        return source.read()


def _heard(
    words: list[str],
    sink: IO[str],
    timeout: float,
    listener: Listener,
    env: Mapping[str, str] | None,
    cwd: Path | None,
) -> int:
    """Run a command with a listener for its output; returns its status."""
    deadline = time.monotonic() + timeout
    with (
        subprocess.Popen(
            words,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
        ) as child,
        selectors.DefaultSelector() as ready,
    ):
        assert child.stdout is not None
        ready.register(child.stdout, selectors.EVENT_READ)
        rest = b""
        try:
            while True:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired(words, timeout)
                listener.tick()
                if not ready.select(1):
                    if child.poll() is not None:  # a process it started may hold the pipe open forever
                        break
                    continue
                chunk = os.read(child.stdout.fileno(), 65536)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace")
                    if not listener.line(text):
                        sink.write(text + "\n")
                sink.flush()
            if rest:
                sink.write(rest.decode(errors="replace"))
            return child.wait(max(1.0, deadline - time.monotonic()))
        except BaseException:
            child.kill()
            raise


def output(command: Sequence[Argument], *, timeout: float = 60) -> str:
    """Run a command and return its standard output without the trailing newline."""
    return run(command, timeout=timeout).stdout.rstrip("\n")


def start(
    command: Sequence[Argument],
    *,
    log: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    outlives: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process in its own session, without a terminal, and return it.

    SIGINT ends it even if this process ignores that signal, as a shell's background jobs do.

    :param pass_fds: all it inherits: no locks.
    :param outlives: it does not end with this process, or rather with the thread that starts it.
    """
    words = _words(command)
    sink: IO[bytes] | int = log if log is not None else subprocess.DEVNULL
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    # env also unblocks it; one that comes earlier waits for that: Linux keeps a blocked signal even if it is ignored
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} if ignored else ())
    try:
        if not outlives:
            words = _mortal(words, env)
        return subprocess.Popen(
            ["env", "--default-signal=INT", *words] if ignored else words,
            close_fds=outlives or bool(pass_fds),
            pass_fds=tuple(pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env=env,
            cwd=cwd,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@dataclass(frozen=True)
class Ended:
    """How a started process ended: ``late`` when it timed out, ``stopped`` when it was asked to stop.

    CPU seconds include the children it waited for.
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
    """Wait for a process of :func:`start`; on timeout or when ``stop`` returns True, end it and its whole session.

    It is also ended when the wait is interrupted, for example by ^C.

    :param timeout: seconds.
    :param grace: seconds between SIGINT and SIGKILL.
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
    _signal(child.pid, signal.SIGKILL)  # leftovers of its session
    seconds = time.monotonic() - began
    return Ended(child.returncode, seconds, usage.ru_utime + usage.ru_stime, late, stopped)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def end_stray(known: Mapping[str, str | int], grace: float = 30) -> bool:
    """End a process of :func:`start` whose parent was killed, with its session; False when it had already ended.

    :param known: its :func:`labctl.host.identity.of`.
    :param grace: seconds between SIGINT and SIGKILL.
    """
    if not known or identity.of(int(known["pid"])) != known:
        return False
    deadline = time.monotonic() + grace
    _signal(int(known["pid"]), signal.SIGINT)
    while identity.of(int(known["pid"])) == known and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(int(known["pid"]), signal.SIGKILL)
    return True


def interactive(command: Sequence[Argument], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a command on the user's terminal, without a deadline; return its status."""
    try:
        return subprocess.run(_mortal(_words(command), env), env=env, cwd=cwd).returncode
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed", "labctl doctor") from error


def attached(command: Sequence[Argument], *, stdin: int | None = NOTHING, stdout: int | None = NOTHING) -> Child:
    """Start a process that may ask on this process's terminal; ^C there reaches only this one.

    :param stdin: PIPE, NOTHING, or None: this process's own; so is ``stdout``.
    """
    words = ["env", "--ignore-signal=INT", "--ignore-signal=QUIT", *_words(command)]
    return subprocess.Popen(_mortal(words, None), stdin=stdin, stdout=stdout)


def missing(*programs: str) -> list[str]:
    """Return the programs that are not on PATH."""
    return [name for name in programs if shutil.which(name) is None]
