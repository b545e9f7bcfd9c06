"""Guest access: keys that SSH servers take, and a host key that is pinned on first contact."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko
import pytest

from labctl.errors import DeadlineError
from labctl.testing import guest as guest_module
from labctl.testing.guest import Guest, GuestCommandError, KeyPair, PinOnFirstContact, new_key
from labctl.testing.waits import FailedStateError


def test_new_key_s_public_line_belongs_to_its_private_key():
    key = new_key("k")
    kind, text = key.public.split()[:2]
    assert kind == "ecdsa-sha2-nistp256"
    assert text == key.private.get_base64()
    assert new_key("k").public != key.public


def test_first_host_key_is_pinned_and_any_other_refused():
    policy, first = PinOnFirstContact(), new_key("a").private
    client = paramiko.SSHClient()
    policy.missing_host_key(client, "203.0.113.7", first)
    assert client.get_host_keys().check("203.0.113.7", first)
    with pytest.raises(paramiko.BadHostKeyException):
        policy.missing_host_key(paramiko.SSHClient(), "203.0.113.7", new_key("b").private)


def test_a_new_client_expects_the_pinned_key():
    policy, first = PinOnFirstContact(), new_key("a").private
    policy.missing_host_key(paramiko.SSHClient(), "203.0.113.7", first)
    later = paramiko.SSHClient()
    policy.expect(later, "203.0.113.7")
    assert later.get_host_keys().check("203.0.113.7", first)
    assert not later.get_host_keys().check("203.0.113.7", new_key("b").private)


def guest(failed: str | None) -> Guest:
    return Guest("127.0.0.1", "cirros", new_key("k"), failed=lambda: failed, console=lambda: "boot line\nno login")


def test_no_login_shows_the_last_refusal_and_the_console():
    with pytest.raises(DeadlineError, match=r"(?s)login timed out after 0.1 s; last error: .*no login$"):
        guest(None).connect(deadline=0.1)


def test_a_server_in_error_ends_the_attempts_at_once():
    with pytest.raises(FailedStateError, match="in ERROR"):
        guest("server x is in ERROR").connect(deadline=60)


class Server(paramiko.ServerInterface):
    """An SSH server for one key; runs what it is told with sh."""

    def __init__(self, key: KeyPair, refusals: int) -> None:
        self.key, self.refusals = key, refusals

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.refusals -= 1
        known = username == "cirros" and key.get_base64() == self.key.private.get_base64()
        return paramiko.AUTH_SUCCESSFUL if known and self.refusals < 0 else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.execute, args=(channel, command), daemon=True).start()
        return True

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        done = subprocess.run(["sh", "-c", command.decode()], capture_output=True, check=False)
        time.sleep(0.2)  # the client must have seen its request granted before the channel closes
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


@contextmanager
def serving(key: KeyPair, host_keys: list[paramiko.PKey], refusals: int = 0) -> Iterator[int]:
    """A server on a port; each connection takes the next host key, the last one stays."""
    policy = Server(key, refusals)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                transport = paramiko.Transport(connection)
                transport.add_server_key(host_keys.pop(0) if len(host_keys) > 1 else host_keys[0])
                with suppress(OSError, EOFError, paramiko.SSHException):  # the client did not like the host key
                    transport.start_server(server=policy)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.fixture
def on_port(monkeypatch: pytest.MonkeyPatch):
    """Send connections of the guest module to a port of this machine."""

    def redirect(port: int) -> None:
        real = paramiko.SSHClient.connect
        monkeypatch.setattr(
            paramiko.SSHClient, "connect", lambda self, host, **given: real(self, host, port=port, **given)
        )
        monkeypatch.setattr(guest_module, "wait_fixed", lambda _: lambda _: 0.1)

    return redirect


def reached(key: KeyPair) -> Guest:
    return Guest("127.0.0.1", "cirros", key, failed=lambda: None, console=lambda: "")


def test_commands_run_with_their_output_and_status(on_port):
    key = new_key("k")
    with serving(key, [new_key("host").private]) as port:
        on_port(port)
        with reached(key).connect(deadline=10) as found:
            assert found.output("echo one; echo two >&2") == "one"
            assert found.run("echo two >&2; exit 3", check=False) == guest_module.Result(3, "", "two\n")
            with pytest.raises(GuestCommandError, match=r"(?s)'exit 7' exited with status 7"):
                found.run("exit 7")
            with pytest.raises(DeadlineError, match=r"timed out after 0\.2 s: sleep 3"):
                found.run("sleep 3", timeout=0.2)


def test_login_is_tried_again_while_the_key_is_not_yet_injected(on_port):
    key = new_key("k")
    with serving(key, [new_key("host").private], refusals=2) as port:
        on_port(port)
        with reached(key).connect(deadline=20) as found:
            assert found.output("echo in") == "in"


def test_another_host_key_after_a_reboot_is_refused_at_once(on_port):
    key = new_key("k")
    with serving(key, [new_key("host").private, new_key("impostor").private]) as port:
        on_port(port)
        found = reached(key).connect(deadline=10)
        with pytest.raises(paramiko.BadHostKeyException):
            found.connect(deadline=30)


def test_the_same_host_key_after_a_reboot_is_taken(on_port):
    key = new_key("k")
    with serving(key, [new_key("host").private]) as port:
        on_port(port)
        found = reached(key).connect(deadline=10)
        with found.connect(deadline=10):
            assert found.output("echo again") == "again"
