"""Reaching a driver's machine: over SSH with its pinned host key; errors show its console."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from labctl.errors import BrokenLabError, DeadlineError
from labctl.host import namespace
from labctl.host.ssh import Session
from labctl.host.ssh import connect as ssh_connect
from labctl.records.lab import Lab

#: Console lines shown in an error.
LINES = 15
#: Bytes at the console's end that are searched for a panic.
LOOKED_AT = 256 * 1024
BOOTS, PANICS = "] Linux version ", "Kernel panic - "


def console_tail(path: Path) -> str:
    """The last lines of a console file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-LINES:]) if path.exists() else "(none)"


def panic(path: Path) -> str:
    """The kernel's panic message since its last boot; empty when there was no panic."""
    if not path.exists():
        return ""
    with path.open("rb") as console:
        console.seek(max(0, path.stat().st_size - LOOKED_AT))
        since_boot = console.read().decode(errors="replace").rpartition(BOOTS)[2]
    found = since_boot.rfind(PANICS)
    return "" if found < 0 else since_boot[found:].partition("\n")[0].strip()


def session(
    lab: Lab,
    node: str,
    seconds: float,
    *,
    running: Callable[[], bool],
    console: Callable[[], Path],
    patience: float = 1.0,
    hint: str,
) -> Session:
    """Open a session to a machine's root account, waiting up to that many seconds for it to answer.

    :param running: whether the machine is running; if not, there is no wait.
    :param console: the file with its console's output, asked for when an error shows that.
    :param hint: what to do when it is running but does not answer.
    :raises DeadlineError: it did not answer in time; shows its last console lines.
    """
    address = str(lab.spec.address(lab.spec.nodes[node]))

    def connector(timeout: float) -> socket.socket:
        if not running():
            raise BrokenLabError(
                f"{node} of {lab.name} is not running; last console lines:\n{console_tail(console())}",
                f"labctl repair {lab.name}",
            )
        return namespace.connect(lab.namespace, address, 22, timeout)

    keys = (lab.private_key(), lab.host_key(node))
    try:
        return ssh_connect(connector, node, "root", *keys, timeout=seconds, patience=patience, hint=hint)
    except DeadlineError as error:
        raise DeadlineError(f"{error.message}\nlast console lines:\n{console_tail(console())}", error.hint) from error
