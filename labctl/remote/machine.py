"""The machine of ``--host``: ``ssh://[USER@]MACHINE[:PORT]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from labctl.errors import LabError

LIKE = "labctl --host ssh://user@machine list"
#: What OpenSSH takes for a name; no word of these is an option.
_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.:%\[\]-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")


@dataclass(frozen=True)
class Machine:
    """Another machine, as OpenSSH's client names it; its own configuration may say more of it."""

    url: str
    host: str
    port: int | None

    @property
    def known_as(self) -> str:
        """Its name in a known_hosts file."""
        return self.host if self.port in (None, 22) else f"[{self.host}]:{self.port}"


def parse(url: str) -> Machine:
    """The machine of a URL.

    :raises LabError: it is no such URL, or has more than a user, a machine and a port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise LabError(f"--host {url}: {error}", LIKE) from error
    if parts.password:
        raise LabError("--host has a password, which every process of this machine could read", LIKE)
    if parts.scheme != "ssh":
        raise LabError(f"--host {url}: labctl reaches other machines by ssh:// only", LIKE)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise LabError(f"--host {url}: more than a user, a machine and a port", LIKE)
    if not _HOST.fullmatch(parts.hostname or "") or (
        parts.username is not None and not _USER.fullmatch(parts.username)
    ):
        raise LabError(f"--host {url}: no name of a machine, or none of a user", LIKE)
    return Machine(url.rstrip("/"), parts.hostname or "", port)
