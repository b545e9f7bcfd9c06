"""Ports of this machine's 127.0.0.1 that lead into a lab on another machine.

labctl there listens on sockets in its own directory, which only its user can enter, and the connection leads ports
of this machine to them: no port is opened there.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from labctl.errors import LabError
from labctl.host import process, relay
from labctl.host.process import NOTHING, PIPE
from labctl.remote import run
from labctl.remote.connection import SHORT, Connection, line

#: Seconds that a socket there has to answer a greeting.
ANSWER = 15


class UnopenedError(LabError):
    """labctl there ended before it opened anything, and said why; ``status`` is its."""

    def __init__(self, status: int) -> None:
        super().__init__("nothing was opened")
        self.status = status


@dataclass(frozen=True)
class Opened:
    """What is open: each has a name, the port that was wanted, and the one that it has."""

    rows: Sequence[dict[str, Any]]
    connection: Connection
    child: process.Child

    def wait(self) -> int:
        """Wait for the end of labctl there; its status.

        :raises LostError: the connection is gone.
        :raises KeyboardInterrupt: a signal came.
        """
        status = self.child.wait()
        if status == run.LOST and self.connection.lost():
            raise self.connection.broken()
        return status


@contextmanager
def opened(connection: Connection, name: str, what: Sequence[str]) -> Iterator[Opened]:
    """Open a lab of the other machine here.

    :param what: as of :func:`labctl.lab.forward.chosen`.
    :raises UnopenedError: labctl there could not, and has said why.
    :raises LabError: the machine forwards nothing, or no port is free here.
    """
    words = ["forward", name, *what, "--sockets", f"{connection.place}/sockets"]
    child = run.start(connection, words, stdin=NOTHING, stdout=PIPE)
    try:
        said = line(child, SHORT)
        if not said:
            raise UnopenedError(child.wait(SHORT))
        rows = [_open(connection, row) for row in json.loads(said)]
        _check(connection, rows)
        yield Opened(rows, connection, child)
    finally:
        if child.poll() is None:
            run.interrupt(connection)


def _open(connection: Connection, row: dict[str, Any]) -> dict[str, Any]:
    wanted = int(row["wanted"])
    for number in range(wanted, min(wanted + relay.TRIED, 65536)):
        with relay.listen(number) as free:
            port = free.getsockname()[1]
        if connection.forward(port, row["socket"]):
            link = str(row["link"]).replace(f"{relay.LOOPBACK}:0", f"{relay.LOOPBACK}:{port}")
            return {"name": row["name"], "link": link, "port": port, "wanted": wanted}
    raise LabError(f"no port from {wanted} on can be opened on {relay.LOOPBACK}", "ss -ltn shows what listens")


def _check(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Ask the SOCKS port: sshd refuses to forward only when something is to be forwarded."""
    for port in (row["port"] for row in rows if row["name"] == "socks"):
        with socket.create_connection((relay.LOOPBACK, port), ANSWER) as asked:
            try:
                asked.sendall(relay.HELLO)
                answer = asked.recv(2)
            except OSError:
                answer = b""
        if answer != relay.GREETING:
            raise LabError(
                f"{connection.machine.url} does not forward connections",
                "AllowStreamLocalForwarding yes in its sshd_config",
            )
