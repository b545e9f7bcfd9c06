"""Run a command of labctl on another machine as if it ran here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from labctl.errors import LabError
from labctl.host import process
from labctl.host.process import PIPE, Child
from labctl.progress import note, step
from labctl.remote import baggage
from labctl.remote.baggage import Baggage
from labctl.remote.connection import Connection

#: Status of a command whose connection was lost, as OpenSSH's.
LOST = 255
#: Status of a command that was killed, as a shell's.
KILLED = 128 + 9
#: Seconds in which a command must end once it was interrupted.
GRACE = 120
#: A command there. It ends with the connection: its shell is killed with sshd's session, and it is hung up then.
_RUN = """
exec setpriv --pdeathsig KILL -- sh -c '
    trap : HUP INT QUIT TERM
    place=$1; shift
    cd "$place/work" && echo "$$" >"$place/started" || exit 1
    setpriv --pdeathsig HUP -- env -u LABCTL_HOST LABCTL_VISIT="$place/work" labctl "$@"
    exit $?
' labctl "$@"
"""
_INTERRUPT = 'kill -s INT -- "-$(cat "$1/started")"'
_UNPACK = 'tar -xmf - -C "$1/work"'
_PACK = 'cd "$1/work" && find . -type f -newer ../started -print0 | tar -cf - --null --no-recursion -T -'


def run(connection: Connection, root: Any, words: Sequence[str]) -> int:
    """Run a command there; its status. What it names goes there before, what it wrote comes back after.

    :param root: labctl's own commands, which say which words are files.
    :raises LabError: a file cannot be sent or received.
    :raises LostError: the connection was lost.
    """
    packed = baggage.of(root, words)
    if packed.sent or packed.places:
        with step("host", f"send {', '.join(packed.sent) or 'directories'}"):
            _send(connection, packed)
    status = _wait(connection, start(connection, packed.words))
    if status == LOST and connection.lost():
        raise connection.broken()
    if status == KILLED:
        note("host", f"labctl was killed on {connection.machine.url}")
    for path in _received(connection, packed):
        note("host", f"{path} came back")
    return status


def start(connection: Connection, words: Sequence[str], **streams: int | None) -> Child:
    """Start a command there, on this terminal if this is one; ``streams`` as in :func:`process.attached`."""
    tty = not streams and sys.stdin.isatty() and sys.stdout.isatty()
    command = connection.command(_RUN, connection.place, *words, tty=tty)
    return process.attached(command, **(streams or {"stdin": None, "stdout": None}))


def interrupt(connection: Connection) -> None:
    """Interrupt the command there, as ^C on a terminal does."""
    with suppress(LabError):  # it has ended, or the connection has, and with it the command
        connection.run(_INTERRUPT, connection.place)


def _wait(connection: Connection, child: Child) -> int:
    """The status of a command; signals that come here interrupt it there."""
    seconds = None
    while True:
        try:
            return child.wait(seconds)
        except KeyboardInterrupt:
            interrupt(connection)
            seconds = GRACE
        except process.Late:
            child.kill()
            raise LabError(
                f"labctl on {connection.machine.url} did not end within {GRACE} s of its interruption",
                f"labctl --host {connection.machine.url} list",
            ) from None


def _send(connection: Connection, packed: Baggage) -> None:
    child = connection.start(_UNPACK, connection.place, stdin=PIPE)
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin as sink:
        packed.pack(sink)
    if child.wait() != 0:
        raise connection.broken() if connection.lost() else _untransferred(connection, "sent to")


def _received(connection: Connection, packed: Baggage) -> list[Any]:
    child = connection.start(_PACK, connection.place, stdout=PIPE)
    assert child.stdout is not None
    with child.stdout as source:
        got = packed.unpack(source)
        while source.read(1 << 16):  # the end of the archive
            pass
    if child.wait() != 0:
        raise connection.broken() if connection.lost() else _untransferred(connection, "received from")
    return got


def _untransferred(connection: Connection, how: str) -> LabError:
    url = connection.machine.url
    return LabError(f"files could not be {how} {url}", f"ssh {url} df /var/tmp")
