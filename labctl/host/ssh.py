"""SSH to the machines of a lab: the one place that uses paramiko for nodes.

Host keys are made by labctl and pinned; a node that shows another key is refused. Nobody ever logs in
with a password.
"""

from __future__ import annotations

import io
import logging
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from labctl.errors import BrokenLabError, DeadlineError, LabError

# what a transport's own thread says of a node that does not answer yet is in the error that is raised in the end
logging.getLogger("paramiko.transport").addHandler(logging.NullHandler())
Connector = Callable[[float], socket.socket]


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair in OpenSSH's forms."""

    private: str
    public: str


def new_key(comment: str) -> KeyPair:
    """Make a key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private.decode(), f"{public.decode()} {comment}")


@dataclass(frozen=True)
class Result:
    """What a command on a node came to."""

    status: int
    stdout: str
    stderr: str


class Session:
    """An open SSH connection to one node.

    :param patience: how many times slower than the host the node is; deadlines are that much longer.
    :param hint: what to do when the connection breaks.
    """

    def __init__(self, transport: paramiko.Transport, where: str, patience: float = 1.0, hint: str = "") -> None:
        self._transport = transport
        self.where = where
        self.patience = patience
        self._hint = hint

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def run(
        self,
        command: str,
        *,
        timeout: float,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """Run a command to its end; ``on_line`` sees each line of its standard output as it comes.

        :param timeout: seconds for the whole command, on a node that is not slower than the host.
        :raises DeadlineError: not finished in time; the message shows the last output.
        :raises BrokenLabError: the connection broke.
        """
        timeout *= self.patience
        deadline = time.monotonic() + timeout
        try:
            channel = self._transport.open_session(timeout=min(timeout, 30 * self.patience))
            channel.exec_command(command)
            channel.settimeout(timeout)
            if stdin:
                channel.sendall(stdin)
            channel.shutdown_write()
            return self._collect(channel, command, deadline, timeout, on_line)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise BrokenLabError(
                f"{self.where}: the SSH connection broke while running {command[:80]!r}: {error}", self._hint
            ) from error

    def _collect(
        self,
        channel: paramiko.Channel,
        command: str,
        deadline: float,
        timeout: float,
        on_line: Callable[[str], None] | None,
    ) -> Result:
        out, err, pending = bytearray(), bytearray(), bytearray()
        while True:
            select.select([channel], [], [], 0.5)
            while channel.recv_ready():
                data = channel.recv(65536)
                out += data
                pending += data
            while channel.recv_stderr_ready():
                err += channel.recv_stderr(65536)
            while on_line and b"\n" in pending:
                line, _, rest = pending.partition(b"\n")
                pending = bytearray(rest)
                on_line(line.decode(errors="replace"))
            if channel.exit_status_ready() and not channel.recv_ready() and not channel.recv_stderr_ready():
                break
            if time.monotonic() > deadline:
                channel.close()
                seen = bytes(out[-400:]).decode(errors="replace")
                raise DeadlineError(f"{self.where}: no end after {timeout:g} s: {command[:80]!r}\nlast: {seen}")
        status = channel.recv_exit_status()
        channel.close()
        if status == -1:  # paramiko: closed before the command ended
            raise BrokenLabError(f"{self.where}: the SSH connection broke while running {command[:80]!r}", self._hint)
        return Result(status, out.decode(errors="replace"), err.decode(errors="replace"))


def connect(
    connector: Connector,
    where: str,
    user: str,
    private_key: str,
    host_key: str,
    *,
    timeout: float,
    patience: float = 1.0,
    hint: str = "",
) -> Session:
    """Open a session once the node answers.

    :param connector: makes a TCP connection to the node's SSH port, given seconds.
    :param host_key: the only public key accepted, ``TYPE BASE64``.
    :param timeout: seconds until the node must have answered.
    :param patience: how many times slower than the host the node is; its deadlines are that much longer.
    :param hint: what to do when it does not answer, or the connection breaks later.
    :raises DeadlineError: it did not.
    :raises LabError: it shows another host key.
    """
    timeout *= patience
    deadline = time.monotonic() + timeout
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(private_key))
    expected = host_key.split()[1]
    last = "no attempt"
    while time.monotonic() < deadline:
        sock: socket.socket | None = None
        try:
            sock = connector(3)
            transport = paramiko.Transport(sock)
            transport.banner_timeout = transport.auth_timeout = 15 * patience
            transport.start_client(timeout=15 * patience)
            shown = transport.get_remote_server_key()
            if shown.get_base64() != expected:
                transport.close()
                raise LabError(
                    f"{where} shows another host key than the one labctl gave it; not connecting",
                    f"something else answers on its address, or its disk was replaced; {hint}",
                )
            transport.auth_publickey(user, key)
            transport.set_keepalive(15)
            return Session(transport, where, patience, hint)
        except (OSError, EOFError, paramiko.SSHException) as error:
            last = f"{type(error).__name__}: {error}"
            if sock is not None:
                sock.close()
            time.sleep(0.1)
    raise DeadlineError(f"{where} does not answer on SSH after {timeout:g} s; last: {last}", hint)


def save_private(path: Path, text: str) -> None:
    """Write a private key or secret file, readable by its owner only from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
