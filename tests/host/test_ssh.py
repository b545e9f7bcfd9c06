"""Access to nodes: by key only, and only to the host key that labctl made."""

from __future__ import annotations

import io
import socket
import threading

import paramiko
import pytest

from labctl import drivers
from labctl.errors import DeadlineError, LabError
from labctl.host import namespace, process
from labctl.host.ssh import KeyPair, connect, new_key
from labctl.records.lab import Lab


class Accounts(paramiko.ServerInterface):
    """Lets root in with one key, and counts who asks."""

    def __init__(self, public: str) -> None:
        self._wanted = public.split()[1]
        self.asked = 0

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.asked += 1
        known = (username, key.get_base64()) == ("root", self._wanted)
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        raise AssertionError("labctl tried a password")


class Server:
    """An SSH server with a host key; each connection is a socket pair."""

    def __init__(self, host: KeyPair, accounts: Accounts) -> None:
        self._host, self._accounts = host, accounts
        self._transports: list[paramiko.Transport] = []

    def __call__(self, _: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        transport = paramiko.Transport(ours)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key(io.StringIO(self._host.private)))
        threading.Thread(target=self._serve, args=(transport,), daemon=True).start()
        self._transports.append(transport)
        return theirs

    def _serve(self, transport: paramiko.Transport) -> None:
        try:
            transport.start_server(server=self._accounts)
        except (paramiko.SSHException, EOFError):
            return  # the client went away, which is what a refusal looks like

    def close(self) -> None:
        for transport in self._transports:
            transport.close()


@pytest.fixture
def host() -> KeyPair:
    return new_key("root@node")


@pytest.fixture
def user() -> KeyPair:
    return new_key("labctl test")


def test_the_pinned_host_key_is_accepted(host: KeyPair, user: KeyPair) -> None:
    server = Server(host, Accounts(user.public))
    connect(server, "node", "root", user.private, host.public, timeout=20).close()
    server.close()


def test_another_host_key_is_refused_before_anything_is_said(host: KeyPair, user: KeyPair) -> None:
    accounts = Accounts(user.public)
    server = Server(new_key("somebody else"), accounts)
    with pytest.raises(LabError, match=r"node: host key mismatch: .*; not connecting"):
        connect(server, "node", "root", user.private, host.public, timeout=20)
    assert accounts.asked == 0
    server.close()


def test_a_key_that_the_node_does_not_know_ends_in_an_error_without_a_password(host: KeyPair, user: KeyPair) -> None:
    server = Server(host, Accounts(new_key("another").public))
    with pytest.raises(DeadlineError, match=r"node: SSH timed out .*AuthenticationException") as raised:
        connect(server, "node", "root", user.private, host.public, timeout=2, hint="labctl status small")
    assert raised.value.hint == "labctl status small"
    server.close()


# --- real machines ---------------------------------------------------------------------------------


@pytest.mark.system
def test_nobody_logs_in_to_a_node_with_a_password(containers: Lab) -> None:
    address = str(containers.spec.address(containers.spec.nodes["first"]))
    with paramiko.Transport(namespace.connect(containers.namespace, address, 22, 10)) as transport:
        transport.start_client(timeout=20)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password("root", "secret")
    assert refused.value.allowed_types == ["publickey"]
    with drivers.get("nspawn").connect(containers, "first", 20) as session:
        # the account whose hash begins with neither ! nor * could log in on a console
        said = session.run("cut -d : -f 2 /etc/shadow | grep -v '^[!*]' | wc -l; sshd -T", timeout=20).stdout
    assert said.startswith("0\n")
    for setting in ("passwordauthentication no", "kbdinteractiveauthentication no", "permitrootlogin without-password"):
        assert f"\n{setting}\n" in said


@pytest.mark.system
def test_a_node_with_another_host_key_is_refused_by_labctl_and_by_ssh(containers: Lab) -> None:
    driver = drivers.get("nspawn")
    keys = containers.directory / "keys"
    ssh = ["ip", "netns", "exec", containers.namespace, "ssh", "-F", "none", "-i", str(keys / "id_ed25519")]
    ssh += [
        "-o",
        f"UserKnownHostsFile={keys / 'known_hosts'}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "BatchMode=yes",
    ]
    ssh += [f"root@{containers.spec.address(containers.spec.nodes['first'])}", "true"]
    assert process.run(ssh, check=False).returncode == 0

    (keys / "first.pub").write_text(new_key("what labctl gave it").public + "\n")
    containers.ensure_keys()  # writes known_hosts anew
    with pytest.raises(LabError, match="first: host key mismatch"):
        driver.connect(containers, "first", 20)
    done = process.run(ssh, check=False)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
