"""libvirtd where nobody else starts it: found, started, and ended only by who started it, when nobody uses it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.drivers.libvirt import connection, daemon
from labctl.errors import LabError
from labctl.host import identity, process
from labctl.images import kvm

#: A daemon: writes its pid file, listens on its socket, and goes to the background.
DAEMON = """#!/usr/bin/env python3
import os, socket, sys, time
pid_file = sys.argv[sys.argv.index("--pid-file") + 1]
if os.fork():
    while not os.path.exists(pid_file):
        time.sleep(0.01)
    sys.exit(0)
os.setsid()
null = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
listener = socket.socket(socket.AF_UNIX)
path = os.path.join({directory!r}, os.path.basename(sys.argv[0]) + "-sock")
if os.path.exists(path):
    os.unlink(path)
listener.bind(path)
listener.listen()
with open(pid_file + ".new", "w") as sink:
    sink.write(str(os.getpid()))
os.rename(pid_file + ".new", pid_file)
while True:
    listener.accept()
"""


class Libvirt:
    """Python's libvirt, with connections that only exist."""

    libvirtError = Exception

    @staticmethod
    def registerErrorHandler(*_: object) -> None: ...

    @staticmethod
    def open(_: str) -> Any:
        return SimpleNamespace(close=lambda: None)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without systemd, whose virtlogd and libvirtd are small programs."""
    for name in daemon.DAEMONS:
        program = tmp_path / name
        program.write_text(DAEMON.format(directory=str(tmp_path)))
        program.chmod(0o755)
    monkeypatch.setattr(daemon, "RUN", tmp_path / "run")
    monkeypatch.setattr(daemon, "STATE", tmp_path / "state")
    monkeypatch.setattr(daemon, "MODULAR", tmp_path / "virtqemud-sock")
    monkeypatch.setattr(daemon, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(daemon, "DAEMONS", {n: tmp_path / f"{n}-sock" for n in daemon.DAEMONS})
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "no-kvm")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield tmp_path
    for path in tmp_path.glob("run/*.pid"):
        if identity.start_time(pid := int(path.read_text())):
            os.kill(pid, signal.SIGKILL)


def running(pid: int) -> bool:
    return bool(identity.start_time(pid))


def test_what_labctl_started_is_ended_when_nothing_is_left(host: Path) -> None:
    assert not daemon.answers()
    daemon.ensure()
    assert daemon.answers()
    pids = daemon.started_here()
    assert set(pids) == {"virtlogd", "libvirtd"}
    assert all(running(pid) for pid in pids.values())

    daemon.ensure()
    assert daemon.started_here() == pids

    assert daemon.end(lambda: False) == []
    assert daemon.answers(), "ended although machines were left"
    assert daemon.end(lambda: True) == []
    assert not any(running(pid) for pid in pids.values())
    assert daemon.started_here() == {}
    assert daemon.end(lambda: True) == []


def test_a_libvirtd_that_runs_already_is_used_and_never_ended(host: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host / "libvirtd-sock"))
        listener.listen()
        daemon.ensure()
        assert daemon.started_here() == {}
        assert daemon.end(lambda: True) == []
    assert not (host / "run/libvirtd.json").exists()


def test_one_that_somebody_uses_is_not_ended(host: Path) -> None:
    daemon.ensure()
    with daemon.hold():
        assert daemon.end(lambda: True, seconds=0.3) == []
        assert daemon.answers()
    assert daemon.end(lambda: True) == []
    assert not daemon.answers()


def test_the_last_process_that_used_it_ends_it(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "library", lambda: Libvirt)
    one, other = (connection.Connection(connection.DEFAULT_URI) for _ in range(2))
    one.get()
    other.get()
    one._leave()
    assert daemon.answers(), "ended although another process uses it"
    (host / "state").mkdir()
    (host / "state/machine.xml").touch()
    other._leave()
    assert daemon.answers(), "ended although a machine is left"
    (host / "state/machine.xml").unlink()
    other.get()
    other._leave()
    assert daemon.started_here() == {}
    assert not daemon.answers()


def test_a_libvirtd_that_was_killed_is_started_again_beside_its_virtlogd(host: Path) -> None:
    daemon.ensure()
    before = daemon.started_here()
    os.kill(before["libvirtd"], signal.SIGKILL)
    deadline = time.monotonic() + 5
    while running(before["libvirtd"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(daemon.started_here()) == {"virtlogd"}

    daemon.ensure()

    after = daemon.started_here()
    assert after["virtlogd"] == before["virtlogd"]
    assert after["libvirtd"] != before["libvirtd"]
    assert daemon.end(lambda: True) == []


def test_a_number_that_belongs_to_another_process_now_is_not_ended(host: Path) -> None:
    (host / "run").mkdir()
    record = {"pid": os.getpid(), "started": "1"}
    (host / "run/libvirtd.json").write_text(json.dumps({"libvirtd": record}))
    assert daemon.started_here() == {}
    assert daemon.end(lambda: True) == []


def test_systemd_is_asked_to_start_what_is_its_own(host: Path) -> None:
    (host / "systemd").mkdir()
    with pytest.raises(LabError, match="libvirtd is not running") as raised:
        daemon.ensure()
    assert raised.value.hint.startswith("systemctl enable --now libvirtd.socket")


def test_programs_that_are_missing_name_their_package(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "program", lambda name: None)
    with pytest.raises(LabError, match="virtlogd and libvirtd are not installed") as raised:
        daemon.ensure()
    assert "libvirt-daemon-system" in raised.value.hint


def test_one_that_does_not_start_is_told(host: Path) -> None:
    (host / "virtlogd").write_text("#!/bin/sh\necho 'cannot bind' >&2\nexit 1\n")
    with pytest.raises(LabError, match="virtlogd failed to start: cannot bind"):
        daemon.ensure()


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root")
def test_a_device_that_lies_is_not_in_the_daemons_dev_but_in_the_hosts(tmp_path: Path) -> None:
    """Tried with a shell in libvirtd's place; /dev/null stands for what it must keep."""
    show = "ls /dev >$0/seen; test -c /dev/null && test -c /dev/pts/ptmx && ! test -e /dev/kvm"
    before = sorted(p.name for p in Path("/dev").iterdir())
    script = ["sh", "-c", daemon.WITHOUT_KVM, "sh", tmp_path / "dev"]
    process.run(["unshare", "--mount", "--propagation", "slave", *script, "sh", "-c", show, tmp_path])
    assert sorted(p.name for p in Path("/dev").iterdir()) == before
    assert sorted((tmp_path / "seen").read_text().split()) == [name for name in before if name != "kvm"]
