"""The command line over machines that come and go: some died, some join later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import Labctl
from support import SMALL, write

from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import process
from labctl.records.lab import Lab

# --- machines that are gone ------------------------------------------------------------------------


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would have been run inside a lab's network, which is there."""
    done: list[list[str]] = []
    (tmp_path / "netns" / "labctl.small").mkdir(parents=True)
    monkeypatch.setattr("labctl.commands.access.NETNS", tmp_path / "netns")
    monkeypatch.setattr("labctl.commands.access._environment", lambda state, who="admin": {})

    def interactive(command: list[str], **_: object) -> int:
        done.append(command)
        return 0

    monkeypatch.setattr(process, "interactive", interactive)
    return done


def test_a_machine_that_died_is_shown_as_stopped(labctl: Labctl, fake: Fake, tmp_path: Path) -> None:
    labctl("up", write(tmp_path, SMALL))
    fake.stop(Lab.load("small"), "second", 1)
    seen = json.loads(labctl("status", "small", "-o", "json")[1])
    assert [(n["node"], n["state"]) for n in seen["nodes"]] == [("first", "running"), ("second", "stopped")]
    assert json.loads(labctl("list", "-o", "json")[1])[0]["machines"] == "1/2 running"


def test_going_into_a_lab_tells_which_machines_do_not_run(
    labctl: Labctl, fake: Fake, tmp_path: Path, entered: list[list[str]]
) -> None:
    labctl("up", write(tmp_path, SMALL))
    fake.stop(Lab.load("small"), "second", 1)

    status, _, err = labctl("ssh", "small", "second")
    assert (status, entered) == (1, [])
    assert "error: second of small is not running" in err
    assert "try: labctl repair small" in err

    status, _, err = labctl("exec", "small", "true")
    assert (status, len(entered)) == (0, 1)
    assert "warning second of small is not running" in err

    fake.stop(Lab.load("small"), "first", 1)
    for words in (("exec", "small", "true"), ("shell", "small")):
        status, _, err = labctl(*words)
        assert (status, len(entered)) == (1, 1)
        assert "error: first and second of small are not running" in err


def test_one_unreadable_lab_does_not_hide_the_others(labctl: Labctl, fake: Fake, tmp_path: Path, home: Path) -> None:
    labctl("up", write(tmp_path, SMALL))
    labctl("up", tmp_path / "lab.yaml", "--name", "small-2")
    (home / "labs" / "small" / "lab.json").write_text("{")
    rows = json.loads(labctl("list", "-o", "json")[1])
    assert [(r["name"], r["machines"]) for r in rows] == [
        ("small", "unreadable state"),
        ("small-2", "2/2 running"),
    ]


# --- nodes that join later -------------------------------------------------------------------------

GROWING = SMALL.replace("    runs: [etcd]\n", "    runs: [etcd]\n    join: later\n")


def test_a_node_joins_and_leaves_a_running_lab(labctl: Labctl, fake: Fake, tmp_path: Path) -> None:
    path = write(tmp_path, GROWING)
    assert "second        eth0" not in labctl("plan", path)[1]
    assert "### file /etc/default/etcd" in labctl("plan", path, "--script", "second")[1]
    status, out, _ = labctl("up", path)
    assert status == 0
    assert "second       joins later: labctl node add small second" in out
    assert "joins later: second; labctl node add small second" in labctl("status", "small")[1]
    assert json.loads(labctl("status", "small", "-o", "json")[1])["later"] == ["second"]

    status, out, err = labctl("node", "add", "small", "second")
    assert status == 0, err
    assert "small: second has joined" in out
    rows = json.loads(labctl("node", "list", "small", "-o", "json")[1])
    assert [(r["node"], r["state"], r["address"], r["joined"], r["runs"]) for r in rows] == [
        ("first", "running", "10.0.0.11", "start", "mariadb memcached"),
        ("second", "running", "10.0.0.12", "later", "etcd"),
    ]
    for words in (("up", path, "--dry-run"), ("plan", path)):
        assert "second        eth0=10.0.0.12: etcd" in labctl(*words)[1]

    status, out, err = labctl("node", "remove", "small", "second")
    assert status == 0, err
    assert "small: second has left" in out
    assert "not added" in labctl("node", "list", "small")[1]


def test_a_copy_of_a_node_joins_with_the_address_that_is_given(labctl: Labctl, fake: Fake, tmp_path: Path) -> None:
    labctl("up", write(tmp_path, SMALL.replace("[etcd]", "[]")))
    words = ("node", "add", "small", "third", "--like", "second", "--address", "management=10.0.0.77")
    assert labctl(*words)[0] == 0
    rows = json.loads(labctl("node", "list", "small", "-o", "json")[1])
    assert [(r["address"], r["joined"]) for r in rows][2:] == [("10.0.0.77", "like second")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("add", "nope", "second"), "there is no lab named 'nope'"),
        (("remove", "nope", "second"), "there is no lab named 'nope'"),
        (("list", "nope"), "there is no lab named 'nope'"),
        (("add", "small", "first"), "small already has the node 'first'"),
        (("add", "small", "x", "--like", "first"), "cannot copy 'first': mariadb cannot join a running lab"),
        (("add", "small", "x", "--like", "second", "--address", "10.0.0.9"), "is not NETWORK=ADDRESS"),
        (("add", "small", "second", "--address", "management=10.0.0.9"), "--address needs --like"),
        (("remove", "small", "first"), "'first' is part of small from the start"),
    ],
)
def test_what_cannot_join_or_leave_is_refused(
    words: tuple[str, ...], message: str, labctl: Labctl, fake: Fake, tmp_path: Path, home: Path
) -> None:
    labctl("up", write(tmp_path, GROWING))
    before = (home / "labs" / "small" / "lab.json").read_text()
    status, out, err = labctl("node", *words)
    assert (status, out) == (1, "")
    assert message in err
    assert (home / "labs" / "small" / "lab.json").read_text() == before


def test_a_node_that_did_not_come_to_its_end_names_the_command_that_goes_on(
    labctl: Labctl, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labctl("up", write(tmp_path, GROWING))

    def broken(lab: Lab, node: str) -> None:
        raise LabError("no such mount")

    with monkeypatch.context() as patched:
        patched.setattr(fake, "create", broken)
        assert "try: labctl node add small second continues" in labctl("node", "add", "small", "second")[2]
    assert labctl("node", "add", "small", "second")[0] == 0
