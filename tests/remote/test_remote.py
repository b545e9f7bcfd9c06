"""``labctl --host``: a command of labctl on another machine, over a real sshd on the loopback."""

from __future__ import annotations

import inspect
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from commandline import Labctl
from elsewhere import TOOLS, Sshd, free_port
from support import SMALL, write

from labctl import __version__
from labctl.cli import app
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host.ssh import new_key
from labctl.records.lab import Lab
from labctl.remote import baggage, machine

ROOT: Any = typer.main.get_command(app)


# --- the URL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://machine", "by ssh:// only"),
        ("user@machine", "by ssh:// only"),
        ("machine", "by ssh:// only"),
        ("ssh://user:geheim@machine", "--host has a password"),
        ("ssh://", "no name of a machine"),
        ("ssh://-oProxyCommand=id", "no name of a machine"),
        ("ssh://-l@machine", "none of a user"),
        ("ssh://machine/etc", "more than a user, a machine and a port"),
        ("ssh://machine:99999", "out of range"),
        ("ssh://machine:port", "port"),
    ],
)
def test_what_is_no_machine_is_refused(url: str, said: str) -> None:
    with pytest.raises(LabError) as refused:
        machine.parse(url)
    assert said in refused.value.message
    assert "geheim" not in refused.value.message
    assert refused.value.hint == "labctl --host ssh://user@machine list"


def test_a_machine_has_the_name_that_known_hosts_has() -> None:
    assert machine.parse("ssh://root@lab.example").known_as == "lab.example"
    assert machine.parse("ssh://lab.example:22/").known_as == "lab.example"
    assert machine.parse("ssh://[fd00::1]:2222").known_as == "[fd00::1]:2222"


# --- what travels ----------------------------------------------------------------------------------


def leaves(command: Any, *words: str) -> dict[tuple[str, ...], Any]:
    if not hasattr(command, "commands"):
        return {words: command}
    return {k: v for name, below in command.commands.items() for k, v in leaves(below, *words, name).items()}


def test_every_path_of_a_command_line_says_whether_it_is_read_or_written() -> None:
    untold = []
    for words, command in leaves(ROOT).items():
        metavars = {parameter.name: (parameter.metavar or "").strip("[].") for parameter in command.params}
        hints = get_type_hints(inspect.unwrap(command.callback))
        for name, kind in hints.items():
            hidden = any(p.name == name and getattr(p, "hidden", False) for p in command.params)
            if "Path" in str(kind) and not hidden and metavars.get(name) not in ("FILE", "TARGET", "KEY"):
                untold.append((*words, name))
    assert untold == []


def test_files_keep_their_names_where_those_stay_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "topologies").mkdir()
    write(tmp_path / "topologies", SMALL, "mine.yaml")
    packed = baggage.of(ROOT, ["validate", "lab.yaml", "mine", "zed-2node", "./lab.yaml"])
    assert packed.words == ["validate", "lab.yaml", "mine", "zed-2node", "lab.yaml"]
    assert packed.sent == {"lab.yaml": SMALL.encode(), "topologies/mine.yaml": SMALL.encode()}


def test_paths_that_lead_elsewhere_get_others_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    file = write(tmp_path)
    packed = baggage.of(ROOT, ["up", str(file), "--name", "x"])
    assert packed.words == ["up", ".labctl/1/lab.yaml", "--name", "x"]
    packed = baggage.of(ROOT, ["test", "x", f"--junit={tmp_path}/j.xml", "--", "--junitxml", f"{tmp_path}/j.xml"])
    assert packed.words == ["test", "x", "--junit=.labctl/1/j.xml", "--", "--junitxml", f"{tmp_path}/j.xml"]
    assert packed.places == {".labctl/1/j.xml": tmp_path / "j.xml"}
    assert packed.sent == {}
    assert baggage.of(ROOT, ["bundle", "x", "-o", "../b.tar"]).words == ["bundle", "x", "-o", ".labctl/1/b.tar"]


def test_a_private_key_does_not_travel(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no private key is sent"):
        baggage.of(ROOT, ["snapshot", "export", "x", "now", "--sign", str(tmp_path / "id_ed25519")])


def test_standard_input_and_files_of_the_other_machine_are_left_to_it() -> None:
    for word in ("-", "/nowhere/lab.yaml", "no-such-name"):
        packed = baggage.of(ROOT, ["validate", word])
        assert (packed.words, packed.sent) == (["validate", word], {})


# --- a command there -------------------------------------------------------------------------------


def test_a_command_runs_there(elsewhere: Sshd) -> None:
    status, out, _ = elsewhere("list", "-o", "json")
    assert (status, json.loads(out)) == (0, [])
    assert elsewhere.home.is_dir() or not (elsewhere.place / "home here").exists()
    status, out, err = elsewhere("status", "nope")
    assert (status, out) == (1, "")
    assert "there is no lab named 'nope'" in err
    assert elsewhere.left() == []


def test_the_environment_names_the_machine_too(elsewhere: Sshd) -> None:
    env = {**os.environ, **elsewhere.variables, "LABCTL_HOST": elsewhere.url}
    words = [sys.executable, "-m", "labctl", "status", "nope"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "connecting to ssh://" in done.stderr
    assert "there is no lab named 'nope'" in done.stderr


def test_a_topology_travels_and_its_mistakes_have_its_name(
    elsewhere: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    assert "lab.yaml: valid" in elsewhere("validate", "lab.yaml")[1]
    write(tmp_path, SMALL.replace("10.0.0.12", "10.0.0.256"), "wrong.yaml")
    status, _, err = elsewhere("validate", "wrong.yaml")
    assert status == 1
    line = next(number for number, text in enumerate(SMALL.splitlines(), 1) if "10.0.0.12" in text)
    assert f"\nwrong.yaml:{line}:" in err or f"error: wrong.yaml:{line}:" in err
    status, _, err = elsewhere("validate", "./none.yaml")
    assert status == 1
    assert "topology file ./none.yaml not found" in err
    assert elsewhere.left() == []


def test_what_a_command_writes_comes_back(elsewhere: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write(Path.cwd(), SMALL.replace("drivers: [nspawn]", "drivers: [nspawn, vagrant]"))
    status, _, err = elsewhere("vagrant", "render", "lab.yaml", "--to", "../made")
    assert status == 0, err
    assert "came back" in err
    assert (tmp_path / "made" / "Vagrantfile").is_file()
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["lab.yaml"], "nothing that was sent is received"
    assert elsewhere.left() == []


def test_a_lab_keeps_the_topology_that_came_with_its_command(
    labctl: Labctl, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "visit").mkdir()
    path = write(tmp_path / "visit")
    monkeypatch.setenv("LABCTL_VISIT", str(tmp_path / "visit"))
    assert labctl("up", path)[0] == 0
    path.unlink()
    kept = Path(Lab.load("small").meta["topology_file"])
    assert kept.read_text() == SMALL
    assert labctl("up", kept)[0] == 0
    assert labctl("down", "small")[0] == 0
    assert not kept.exists()


def test_standard_input_is_the_command_s(elsewhere: Sshd) -> None:
    child = elsewhere.begin("validate", "-", stdin=subprocess.PIPE)
    out, err = child.communicate(SMALL, timeout=120)
    assert child.returncode == 0, err
    assert "valid" in out


# --- signals and terminals -------------------------------------------------------------------------


def until(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def waiting(elsewhere: Sshd) -> list[int]:
    """Commands of labctl there that wait for a topology."""
    done = subprocess.run(["pgrep", "-f", "bin/labctl validate -$"], capture_output=True, text=True, check=False)
    there = f"LABCTL_HOME={elsewhere.home}".encode()
    return [int(pid) for pid in done.stdout.split() if there in Path(f"/proc/{pid}/environ").read_bytes()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_the_command_there(elsewhere: Sshd, number: signal.Signals) -> None:
    child = elsewhere.begin("validate", "-", stdin=subprocess.PIPE)
    until(lambda: waiting(elsewhere))
    child.send_signal(number)
    assert child.wait(timeout=60) == 128 + number  # its input stays open: the signal alone ends it
    child.communicate()
    assert waiting(elsewhere) == []
    assert elsewhere.left() == []


def test_a_command_that_is_killed_there_says_so(elsewhere: Sshd) -> None:
    child = elsewhere.begin("validate", "-", stdin=subprocess.PIPE)
    until(lambda: waiting(elsewhere))
    os.kill(waiting(elsewhere)[0], signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 137
    assert "labctl was killed on ssh://" in err
    assert elsewhere.left() == []


def test_a_connection_that_is_lost_says_so_and_leaves_nothing(elsewhere: Sshd) -> None:
    child = elsewhere.begin("validate", "-", stdin=subprocess.PIPE)
    until(lambda: waiting(elsewhere))
    elsewhere.stop()
    _, err = child.communicate(timeout=60)
    assert child.returncode == 255
    assert f"the connection to {elsewhere.url} was lost" in err
    assert f"try: labctl --host {elsewhere.url} list" in err
    until(lambda: not waiting(elsewhere))
    assert elsewhere.left() == []


def test_a_labctl_that_is_killed_here_leaves_nothing_there(elsewhere: Sshd) -> None:
    child = elsewhere.begin("validate", "-", stdin=subprocess.PIPE)
    until(lambda: waiting(elsewhere))
    child.kill()
    child.communicate()
    until(lambda: not waiting(elsewhere))
    assert elsewhere.left() == []


class Terminal:
    """labctl on a terminal of its own."""

    def __init__(self, elsewhere: Sshd, *words: str, url: str = "") -> None:
        self.said = b""
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.environ.update(elsewhere.variables)
            os.environ["TERM"] = "xterm"
            os.execv(sys.executable, [sys.executable, "-m", "labctl", "--host", url or elsewhere.url, *words])

    def until(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in self.said:
            assert time.monotonic() < deadline, self.said
            self.read()

    def read(self) -> bool:
        if not select.select([self.handle], [], [], 0.2)[0]:
            return True
        try:
            got = os.read(self.handle, 4096)
        except OSError:
            got = b""
        self.said += got
        return bool(got)

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def end(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < deadline, self.said
        os.close(self.handle)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_terminal_here_is_one_there(elsewhere: Sshd) -> None:
    import fcntl
    import struct
    import termios

    terminal = Terminal(elsewhere, "validate", "-")
    fcntl.ioctl(terminal.handle, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    until(lambda: terminal.read() and waiting(elsewhere))
    (there,) = waiting(elsewhere)

    def size() -> str:
        done = subprocess.run(
            ["stty", "-F", f"/proc/{there}/fd/0", "size"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    until(lambda: terminal.read() and size() == "33 77")
    fcntl.ioctl(terminal.handle, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
    until(lambda: terminal.read() and size() == "44 99")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert waiting(elsewhere) == []
    assert elsewhere.left() == []


# --- what cannot be reached ------------------------------------------------------------------------


def test_a_machine_that_does_not_listen_is_said(elsewhere: Sshd) -> None:
    elsewhere.port = free_port()
    status, out, err = elsewhere("list")
    assert (status, out) == (1, "")
    assert f"{elsewhere.url} cannot be reached" in err
    assert "Connection refused" in err


def test_a_machine_that_does_not_answer_has_a_deadline(elsewhere: Sshd) -> None:
    import socket

    with socket.socket() as deaf:  # it takes the connection, and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        elsewhere.port = deaf.getsockname()[1]
        began = time.monotonic()
        status, _, err = elsewhere("list")
    assert status == 1
    assert "cannot be reached" in err
    assert time.monotonic() - began < 60


def test_an_unknown_host_key_is_not_accepted_without_asking(elsewhere: Sshd) -> None:
    (elsewhere.place / "known_hosts").unlink()
    status, _, err = elsewhere("list")
    assert status == 1
    assert f"the host key of {elsewhere.url} is not known here" in err
    assert f"try: ssh {elsewhere.url}" in err


def test_a_changed_host_key_is_refused_with_the_command_that_forgets_it(elsewhere: Sshd) -> None:
    elsewhere.known(new_key("other").public)
    status, _, err = elsewhere("list")
    assert status == 1
    assert "is not the one known here" in err
    assert f"ssh-keygen -f {elsewhere.place}/known_hosts -R '[127.0.0.1]:{elsewhere.port}'" in err


def test_no_password_is_waited_for_without_a_terminal(elsewhere: Sshd) -> None:
    elsewhere.stop()
    elsewhere.start("PasswordAuthentication yes\nMatch all\nPasswordAuthentication yes\n")
    (elsewhere.place / "user.pub").write_text("")
    status, _, err = elsewhere("list")
    assert status == 1
    assert "refuses this user" in err
    assert "no password is asked for without a terminal" in err


def test_a_password_is_asked_for_on_a_terminal(elsewhere: Sshd) -> None:
    elsewhere.stop()
    config = "Match all\nPasswordAuthentication yes\n"
    elsewhere.start(config)
    (elsewhere.place / "user.pub").write_text("")
    terminal = Terminal(elsewhere, "list")
    terminal.until("password:")
    terminal.type("\x03")
    assert terminal.end() == 130


def test_a_machine_without_labctl_is_said(elsewhere: Sshd) -> None:
    elsewhere.stop()
    elsewhere.start(path="/nowhere")
    if Path("/usr/local/bin/labctl").exists():
        assert "/usr/local/bin" not in (elsewhere.place / "sshd_config").read_text()
    status, _, err = elsewhere("list")
    assert status == 1
    assert f"labctl is not installed on {elsewhere.url}" in err
    assert "command -v labctl" in err


@pytest.mark.parametrize("version", ["labctl 0.0.9", "Traceback: no module"])
def test_an_old_labctl_is_not_used(elsewhere: Sshd, version: str) -> None:
    old = elsewhere.place / "old"
    old.mkdir()
    (old / "labctl").write_text(f"#!/bin/sh\necho '{version}'\n")
    (old / "labctl").chmod(0o755)
    elsewhere.stop()
    elsewhere.start(path=f"{old}:{TOOLS}")
    status, _, err = elsewhere("list")
    assert status == 1
    assert "is too old" in err
    assert __version__ in err
    assert elsewhere.left() == []
