"""How a driver's machine is reached: over SSH with its pinned host key, and its console where it is not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from labctl.errors import BrokenLabError, DeadlineError
from labctl.host import namespace
from labctl.host.ssh import Session
from labctl.host.ssh import connect as ssh_connect
from labctl.records.lab import Lab

#: Lines of a console that an error shows.
LINES = 15
#: Bytes at a console's end in which a panic is looked for.
LOOKED_AT = 256 * 1024
BOOTS, PANICS = "] Linux version ", "Kernel panic - "


def console_tail(path: Path) -> str:
    """The last lines of a console's file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-LINES:]) if path.exists() else "(none)"


def panic(path: Path) -> str:
    """The words with which the kernel has given up since it was booted last; nothing when it has not."""
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
    console: Path,
    patience: float = 1.0,
    hint: str,
) -> Session:
    """Open a session to a machine's root account, waiting so many seconds for it to answer.

    :param running: whether the machine runs; one that does not is not waited for.
    :param hint: what to do about one that runs and does not answer.
    :raises DeadlineError: it does not answer; shows its console's last lines.
    """
    address = str(lab.spec.address(lab.spec.nodes[node]))

    def connector(timeout: float) -> socket.socket:
        if not running():
            raise BrokenLabError(
                f"{node} of {lab.name} does not run; its last console lines:\n{console_tail(console)}",
                f"labctl repair {lab.name}",
            )
        return namespace.connect(lab.namespace, address, 22, timeout)

    keys = (lab.private_key(), lab.host_key(node))
    try:
        return ssh_connect(connector, node, "root", *keys, timeout=seconds, patience=patience, hint=hint)
    except DeadlineError as error:
        raise DeadlineError(f"{error.message}\nits last console lines:\n{console_tail(console)}", error.hint) from error
