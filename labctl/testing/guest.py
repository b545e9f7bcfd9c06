"""SSH into guests with an injected key; the host key is pinned on first contact."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_fixed

from labctl.errors import DeadlineError, LabError
from labctl.host import process
from labctl.testing.waits import FailedStateError, patient

SSH_DEADLINE = 180  # seconds from the first attempt to a shell; guests run under software emulation
CONNECT_TIMEOUT = 10
HANDSHAKE_TIMEOUT = 45  # key exchange of an emulated guest while two others boot
#: CirrOS has mkfs.ext4, a busybox guest mke2fs; the kernel's ext4 mounts both.
MAKE_FILESYSTEM = 'for t in mkfs.ext4 mkfs.ext3 mkfs.ext2 mke2fs; do command -v "$t" && exec "$t" -F {} ; done; exit 9'
FAULT_INTERVAL = 10  # between two checks with nova that the server has not failed: each costs the lab some


class GuestCommandError(LabError):
    """A command in the guest exited with a non-zero status."""


@dataclass(frozen=True)
class KeyPair:
    """A key pair registered with nova as ``name``; ``public`` is its OpenSSH line, ``private`` paramiko's."""

    name: str
    public: str
    private: paramiko.PKey

    @classmethod
    def read(cls, name: str, pem: str) -> KeyPair:
        """The pair of a private key that :attr:`pem` wrote."""
        private = paramiko.ECDSAKey.from_private_key(io.StringIO(pem))
        return cls(name, f"{private.get_name()} {private.get_base64()}", private)

    @property
    def pem(self) -> str:
        """The private key as text."""
        text = io.StringIO()
        self.private.write_private_key(text)
        return text.getvalue()


@dataclass(frozen=True)
class Result:
    """Exit status and output of a command in the guest."""

    status: int
    stdout: str
    stderr: str


def new_key(name: str) -> KeyPair:
    """Generate an ECDSA P-256 key, which the dropbear of every CirrOS release accepts.

    (CirrOS 0.5's dropbear has no Ed25519 user keys and signs RSA with SHA-1 only, which paramiko refuses.)
    """
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(name, public.decode(), paramiko.ECDSAKey.from_private_key(io.StringIO(pem)))


class PinOnFirstContact(paramiko.MissingHostKeyPolicy):
    """Accept a guest's host key once and remember it; paramiko then refuses any other key."""

    def __init__(self) -> None:
        self.pinned: paramiko.PKey | None = None

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called for a key that paramiko does not know: pin it, or refuse it when another key is pinned."""
        if self.pinned is not None and self.pinned != key:
            raise paramiko.BadHostKeyException(hostname, key, self.pinned)
        self.pinned = key
        client.get_host_keys().add(hostname, key.get_name(), key)

    def expect(self, client: paramiko.SSHClient, hostname: str) -> None:
        """Make a new client refuse any key but the pinned one."""
        if self.pinned is not None:
            client.get_host_keys().add(hostname, self.pinned.get_name(), self.pinned)


def _transient(error: BaseException) -> bool:
    # A refused login is transient as well: dropbear answers before the key has been injected.
    if isinstance(error, paramiko.BadHostKeyException):
        return False
    return isinstance(error, OSError | EOFError | paramiko.SSHException)


class Guest:
    """A shell in a guest. Use as a context manager or call :meth:`close`.

    :param failed: why the server can never answer, or None; called from time to time.
    :param console: the guest's console, shown when the login fails.
    """

    def __init__(
        self,
        address: str,
        user: str,
        key: KeyPair,
        *,
        failed: Callable[[], str | None],
        console: Callable[[], str],
    ) -> None:
        self.address = address
        self._user = user
        self._key = key
        self._failed = failed
        self._console = console
        self._policy = PinOnFirstContact()
        self._client: paramiko.SSHClient | None = None
        self._look_again = 0.0

    def connect(self, deadline: float = SSH_DEADLINE) -> Guest:
        """Log in, retrying until the deadline (seconds); call it again after a reboot.

        :raises FailedStateError: at once when the server has failed for good.
        :raises DeadlineError: timed out; shows the last error and the end of the console.
        :raises paramiko.BadHostKeyException: the host key differs from the pinned one.
        """
        deadline = patient(deadline)
        retrying = Retrying(
            stop=stop_after_delay(deadline),
            wait=wait_fixed(2),
            retry=retry_if_exception(_transient),
            retry_error_callback=lambda state: self._give_up(state, deadline),
        )
        retrying(self._connect_once)
        return self

    def _give_up(self, state: RetryCallState, deadline: float) -> None:
        error = state.outcome.exception() if state.outcome else None
        raise DeadlineError(
            f"SSH to {self._user}@{self.address}: login timed out after {deadline:g} s; last error: "
            f"{type(error).__name__}: {error}\nend of the guest's console:\n{self._tail()}"
        ) from error

    def _tail(self) -> str:
        try:
            return "\n".join(self._console().splitlines()[-25:])
        except Exception as error:  # the console is extra; the login is what failed
            return f"(console unreadable: {error})"

    def _connect_once(self) -> None:
        if time.monotonic() >= self._look_again:
            reason = self._failed()
            if reason:
                raise FailedStateError(f"SSH to {self.address}: {reason}")
            self._look_again = time.monotonic() + patient(FAULT_INTERVAL)
        self.close()
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(self._policy)
        self._policy.expect(client, self.address)
        try:
            client.connect(
                self.address,
                username=self._user,
                pkey=self._key.private,
                allow_agent=False,
                look_for_keys=False,
                timeout=patient(CONNECT_TIMEOUT),
                banner_timeout=patient(HANDSHAKE_TIMEOUT),
                auth_timeout=patient(HANDSHAKE_TIMEOUT),
            )
        except BaseException:
            client.close()
            raise
        self._client = client

    def run(self, command: str, timeout: float = 30, *, check: bool = True) -> Result:
        """Run shell text in the guest.

        :param timeout: seconds without output, and until the exit status.
        :raises GuestCommandError: non-zero status, unless ``check`` is off.
        :raises DeadlineError: the command timed out.
        """
        if self._client is None:
            raise LabError(f"{self.address}: not connected")
        timeout = patient(timeout)
        try:
            _, stdout, stderr = self._client.exec_command(command, timeout=timeout)
            out, err = stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
        except TimeoutError as error:
            raise DeadlineError(f"{self.address}: timed out after {timeout:g} s: {command[: process.SHOWN]}") from error
        if not stdout.channel.status_event.wait(timeout):
            raise DeadlineError(f"{self.address}: no exit status after {timeout:g} s: {command[: process.SHOWN]}")
        result = Result(stdout.channel.recv_exit_status(), out, err)
        if check and result.status != 0:
            shown, said = command[: process.SHOWN], (err or out).strip()[-1500:]
            raise GuestCommandError(f"{self.address}: {shown!r} exited with status {result.status}:\n{said}")
        return result

    def root(self, script: str, timeout: float = 60, *, check: bool = True) -> Result:
        """Run shell text as root, with the sbin directories on PATH."""
        quoted = shlex.quote("PATH=/sbin:/usr/sbin:$PATH; " + script)
        return self.run(f"sudo sh -c {quoted}", timeout, check=check)

    def write_disk(self, device: str) -> str:
        """Make a file system with a file of random bytes on a disk, and return the file's checksum."""
        self.root(MAKE_FILESYSTEM.format(device), timeout=120)
        return self.root(
            f"mkdir -p /mnt && mount {device} /mnt && "
            "dd if=/dev/urandom of=/mnt/bytes bs=64k count=16 2>/dev/null && "
            "sha256sum /mnt/bytes && sync && umount /mnt"
        ).stdout.split()[0]

    def read_disk(self, device: str) -> str:
        """The checksum of the file that :meth:`write_disk` made; the disk is only read."""
        script = f"mkdir -p /mnt && mount -o ro {device} /mnt && sha256sum /mnt/bytes && umount /mnt"
        return self.root(script).stdout.split()[0]

    def output(self, command: str, timeout: float = 30) -> str:
        """Output of a command, without surrounding white space."""
        return self.run(command, timeout).stdout.strip()

    def close(self) -> None:
        """Close the connection; idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
