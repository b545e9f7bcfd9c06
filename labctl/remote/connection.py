"""One connection of OpenSSH's client to another machine, which all of a command's sessions share.

``ssh -M`` holds it as long as the command runs; each session is then one round trip, and nobody is asked twice. A
session that is open all the time removes labctl's directory there at the end of the connection, whatever ended it.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import sys
import time
from contextlib import ExitStack, suppress
from typing import Self

from packaging.version import InvalidVersion, Version

from labctl import __version__
from labctl.errors import DeadlineError, LabError
from labctl.host import files, process
from labctl.host.process import NOTHING, PIPE, Child
from labctl.host.telling import last_words
from labctl.progress import note
from labctl.remote.machine import Machine

#: Options or another program: ``ssh -F FILE``.
VARIABLE = "LABCTL_SSH"
#: Seconds until the machine answers; until somebody has typed a password; of a short program there.
CONNECT, TYPED, SHORT = 15, 300, 60
OPTIONS = {
    "ConnectTimeout": str(CONNECT),
    "ServerAliveInterval": "15",  # three of them without an answer: the connection is lost
    "ServerAliveCountMax": "3",
    "ControlPersist": "no",
    "PermitLocalCommand": "yes",
    "LocalCommand": "echo connected",
    "ForwardX11": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
}
#: Makes labctl's directory there, and removes it at the end of the connection.
_KEEP = """
umask 077
command -v labctl >/dev/null 2>&1 || { echo none; exit 0; }
labctl --version 2>&1 | tail -n 1
place=$(mktemp -d "${TMPDIR:-/var/tmp}/labctl-XXXXXXXX") && mkdir "$place/work" || exit 1
echo "$place"
trap '' HUP INT TERM
cat >/dev/null
rm -rf "$place"
"""


class LostError(LabError):
    """The connection is gone."""


def terminal() -> bool:
    """True when somebody can be asked for a password."""
    return sys.stdin.isatty()


def _client() -> list[str]:
    words = shlex.split(os.environ.get(VARIABLE, "")) or ["ssh"]
    if shutil.which(words[0]) is None:
        raise LabError(f"{words[0]} is not installed", "apt-get install openssh-client")
    return words


class Connection:
    """An open connection to a machine that has labctl; use as a context manager.

    :raises LabError: it cannot be reached, is not the known one, refuses, or its labctl is missing or too old.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._client, self._open = _client(), ExitStack()
        self.place = ""

    def __enter__(self) -> Self:
        with self._open as opening:
            self._own = opening.enter_context(files.temporary())
            self._control = self._own / "control"
            # no step: ssh may ask for a password where its bar would be
            note("host", f"connecting to {self.machine.url}")
            self._master = self._begin()
            opening.callback(_end, self._master)
            self._keeper = self.start(_KEEP, stdin=PIPE, stdout=PIPE)
            opening.callback(_close, self._keeper)
            self.place = self._opened()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    # --- sessions ------------------------------------------------------------------------------

    def command(self, program: str, *words: str, tty: bool = False) -> list[str]:
        """The command that runs a program of sh there, with words as its arguments; ``tty``: on this terminal."""
        line = shlex.join(["exec", "sh", "-c", program.strip(), "labctl", *words])
        shared = ["-S", str(self._control), "-o", "LogLevel=ERROR", "-t" if tty else "-T"]
        return [*self._client, *shared, self.machine.url, line]

    def start(self, program: str, *words: str, stdin: int | None = NOTHING, stdout: int | None = NOTHING) -> Child:
        """Start a program of sh there; see :func:`labctl.host.process.attached`."""
        return process.attached(self.command(program, *words), stdin=stdin, stdout=stdout)

    def run(self, program: str, *words: str, timeout: float = SHORT) -> str:
        """Run a program of sh there; what it prints.

        :param timeout: seconds.
        :raises LostError: the connection is gone.
        :raises LabError: it failed, or was not done in time.
        """
        try:
            return process.run(self.command(program, *words), timeout=timeout, name=f"sh on {self.machine.url}").stdout
        except process.CommandError as error:
            if self.lost():
                raise self.broken() from error
            raise

    def forward(self, port: int, path: str) -> bool:
        """Lead a port of this machine's 127.0.0.1 to a socket there; false when the port is taken."""
        words = ["-S", str(self._control), "-O", "forward", "-L", f"127.0.0.1:{port}:{path}", self.machine.url]
        return process.run([*self._client, *words], timeout=SHORT, check=False).returncode == 0

    def lost(self) -> bool:
        """True when the connection is gone; waits a second for its end to be noticed."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if self._master.poll() is not None:
                return True
            time.sleep(0.05)
        return False

    def broken(self) -> LostError:
        """The error of a connection that is gone."""
        url = self.machine.url
        return LostError(
            f"the connection to {url} was lost; labctl there is interrupted, as by ^C",
            f"labctl --host {url} list, when it can be reached; then the same command again",
        )

    # --- beginning -----------------------------------------------------------------------------

    def _begin(self) -> Child:
        log = self._own / "log"
        options = {**OPTIONS, **({} if terminal() else {"BatchMode": "yes"})}
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        shared = ["-M", "-S", str(self._control), "-N", "-E", str(log)]
        master = process.attached([*self._client, *shared, *words, self.machine.url], stdout=PIPE)
        try:
            if not line(master, TYPED if terminal() else 2 * CONNECT):
                said = log.read_text(errors="replace") if log.exists() else ""
                raise self._refused(said)
        except BaseException:
            _end(master)
            raise
        return master

    def _refused(self, said: str) -> LabError:
        """Why there is no connection, from what the client logged."""
        url, known_as = self.machine.url, self.machine.known_as
        if "HOST IDENTIFICATION HAS CHANGED" in said:
            file = re.search(r"^Offending .* key in (\S+):\d+", said, re.MULTILINE)
            of = f" -f {file[1]}" if file else ""
            return LabError(
                f"the host key of {url} is not the one known here: another machine answers, or it was installed anew",
                f"if it was: ssh-keygen{of} -R '{known_as}', then ssh {url}",
            )
        if "Host key verification failed" in said:
            return LabError(
                f"the host key of {url} is not known here",
                f"ssh {url}, and compare the fingerprint that it prints with the machine's own",
            )
        if "Permission denied" in said:
            asked = "" if terminal() else "; no password is asked for without a terminal"
            return LabError(f"{url} refuses this user: {last_words(said)}{asked}", f"ssh-copy-id {url}")
        reason = last_words(said) if said.strip() else "no answer in time"
        return LabError(f"{url} cannot be reached: {reason}", f"ssh -v {url} shows why")

    def _opened(self) -> str:
        """labctl's directory there, once its version is known to do."""
        deadline = SHORT
        version = line(self._keeper, deadline)
        url = self.machine.url
        if version == "none":
            raise LabError(
                f"labctl is not installed on {url}, or not in the PATH of its commands",
                f"install it there; ssh {url} 'command -v labctl' must print its place",
            )
        if not version:
            raise self.broken() if self.lost() else DeadlineError(f"{url} did not start labctl", f"ssh -v {url}")
        if _older(version.removeprefix("labctl ")):
            raise LabError(
                f"labctl on {url} is too old: {version!r}, here it is {__version__}",
                f"install this version there; ssh {url} labctl --version must print it",
            )
        place = line(self._keeper, deadline)
        if not place:
            raise LabError(f"no directory could be made on {url}", f"ssh {url} df /var/tmp")
        return place


def _older(version: str) -> bool:
    try:
        return Version(version) < Version(__version__)
    except InvalidVersion:  # what it printed is no version: it did not start
        return True


def line(child: Child, seconds: float) -> str:
    """The next line that a process prints; empty when it ends, or prints none in time."""
    assert child.stdout is not None
    said, deadline = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not ready.select(left):
                break
            letter = os.read(child.stdout.fileno(), 1)
            if letter in (b"", b"\n"):
                break
            said += letter
    return said.decode(errors="replace").strip()


def _close(child: Child) -> None:
    """End a process by the end of its input, and wait for what it does then."""
    with suppress(OSError):
        if child.stdin is not None:
            child.stdin.close()
    with suppress(process.Late):
        child.wait(10)
    _end(child)


def _end(child: Child) -> None:
    child.terminate()
    with suppress(process.Late):
        child.wait(5)
        return
    child.kill()
    child.wait()
