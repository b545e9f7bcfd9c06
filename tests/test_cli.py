"""The command line: what is printed, where, and with which status it ends."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, SMALL, specify, write

from labctl import __main__, drivers
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import process
from labctl.records.lab import Lab, exists, locked


class Labctl:
    """``labctl WORDS`` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["labctl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            __main__.run()
        printed = self._capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Labctl:
    return Labctl(monkeypatch, capsys)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    driver = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    return driver


# --- looking ---------------------------------------------------------------------------------------


def test_the_program_starts_as_a_process_of_its_own() -> None:
    done = process.run([sys.executable, "-m", "labctl", "list", "-o", "json"], cwd=ROOT)
    assert json.loads(done.stdout) == []


def test_validate_names_every_problem_with_its_place(labctl: Labctl, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("10.0.0.12", "10.0.0.256").replace("[etcd]", "[ecd]"))
    status, out, err = labctl("validate", path)
    lines = SMALL.splitlines()
    address = next(i for i, line in enumerate(lines, 1) if "10.0.0.12" in line)
    runs = next(i for i, line in enumerate(lines, 1) if "[etcd]" in line)

    assert status == 1
    assert out == ""
    assert f"{path}:{address}:{lines[address - 1].index('10.0.0.12') + 1}: " in err
    assert f"{path}:{runs}:{lines[runs - 1].index('etcd') + 1}: " in err


def test_validate_says_what_is_valid(labctl: Labctl) -> None:
    status, out, _ = labctl("validate", "zed-2node")
    assert status == 0
    assert "zed-2node.yaml: valid (zed on debian12; controller, compute)" in out


def test_validate_looks_at_the_release_that_is_asked_for(labctl: Labctl) -> None:
    assert (
        "valid (ussuri on debian12; controller, compute)" in labctl("validate", "zed-2node", "--release", "ussuri")[1]
    )
    status, _, err = labctl("validate", "zed-2node", "--release", "mitaka")
    assert status == 1
    assert "zed-2node.yaml:" in err
    assert "mitaka has no placement service" in err


def test_what_a_lab_will_be_is_told_before_it_is(labctl: Labctl) -> None:
    status, out, err = labctl("plan", "zed-2node")
    assert status == 0
    assert "zed-2node: Zed from Debian's packages on Debian 12" in err
    assert "Debian's packages" not in out


def test_plan_prints_the_stages_and_makes_nothing(labctl: Labctl, home: Path) -> None:
    status, out, _ = labctl("plan", "zed-2node")
    assert status == 0
    assert "  controller    write /etc/keystone/keystone.conf" in out
    assert "operations" in out.splitlines()[-1]
    assert not home.exists()


def test_a_dry_run_of_up_is_the_plan(labctl: Labctl, home: Path) -> None:
    assert labctl("up", "zed-2node", "--dry-run") == labctl("plan", "zed-2node")
    assert not home.exists()


def test_plan_script_shows_programs_and_files_without_secrets(labctl: Labctl) -> None:
    status, out, _ = labctl("plan", "zed-2node", "--script", "compute")
    assert status == 0
    assert "### file /etc/nova/nova.conf (root:nova 0640)" in out
    assert "password = ***" in out
    assert "@@" not in out


def test_plan_of_an_unknown_node_names_the_known_ones(labctl: Labctl) -> None:
    status, _, err = labctl("plan", "zed-2node", "--script", "compute1")
    assert status == 1
    assert "zed-2node has no node 'compute1'; it has controller, compute" in err


def test_an_unknown_topology_names_the_one_that_was_meant(labctl: Labctl) -> None:
    status, _, err = labctl("plan", "zed-2nodes")
    assert status == 1
    assert "zed-2node" in err.replace("zed-2nodes", "")


def test_the_schema_is_one(labctl: Labctl) -> None:
    status, out, _ = labctl("schema")
    assert status == 0
    schema = json.loads(out)
    assert {"name", "release", "networks", "nodes"} <= set(schema["properties"])


def test_releases_are_listed_with_their_facts(labctl: Labctl) -> None:
    (zed,) = [r for r in json.loads(labctl("releases", "-o", "json")[1]) if r["name"] == "zed"]
    assert zed["cells_v2"] is True
    assert zed["versions"]["debian"]["placement"] == "8.0.0"
    lines = {" ".join(line.split()) for line in labctl("releases")[1].splitlines()}
    assert "FACT MITAKA ROCKY TRAIN USSURI ZED" in lines
    assert "cells_v2 no yes yes yes yes" in lines
    assert "versions pypi nova - 18.3.0 20.6.1 21.2.4 -" in lines


def test_what_differs_between_two_releases_is_listed(labctl: Labctl) -> None:
    lines = {" ".join(line.split()) for line in labctl("releases", "--diff", "train", "ussuri")[1].splitlines()}
    assert "FACT TRAIN USSURI" in lines
    assert "nova_use_neutron yes no" in lines
    assert not any(line.startswith("cells_v2") for line in lines), "which both have"
    assert "labctl has no recipe for the release 'trian'" in labctl("releases", "--diff", "trian", "zed")[2]


def test_an_empty_home_lists_nothing(labctl: Labctl) -> None:
    assert labctl("list", "-o", "json") == (0, "[]\n", "")
    assert labctl("list")[0] == 0


@pytest.mark.parametrize("words", [("status",), ("env",), ("ssh", "node"), ("shell",), ("exec",), ("test",)])
def test_an_unknown_lab_is_an_error_with_a_hint(words: tuple[str, ...], labctl: Labctl) -> None:
    verb, *rest = words
    status, out, err = labctl(verb, "nope", *rest)
    assert (status, out) == (1, "")
    assert "error: there is no lab named 'nope'; labs: none" in err
    assert "  try: labctl list; labctl up zed-2node creates one" in err


@pytest.mark.parametrize("words", [("up",), ("frobnicate",), ("list", "--no-such-option"), ("list", "-o", "xml")])
def test_wrong_usage_ends_with_2(words: tuple[str, ...], labctl: Labctl) -> None:
    status, out, err = labctl(*words)
    assert status == 2
    assert out == ""
    assert err.strip()


#: Status, what was said, and the log that was kept.
Bug = Callable[[str], tuple[int, str, Path]]


@pytest.fixture
def bug(labctl: Labctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bug:
    """Run labctl into an error that nobody thought of."""

    def run(message: str) -> tuple[int, str, Path]:
        def broken() -> list[str]:
            raise RuntimeError(message)

        monkeypatch.setattr("labctl.lab.repair.recorded", broken)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        status, _, err = labctl("list")
        (log,) = tmp_path.glob("labctl-bug-*.log")
        return status, err, log

    return run


def test_a_bug_ends_with_3_and_keeps_the_traceback(bug: Bug) -> None:
    status, err, log = bug("never thought of")
    assert status == 3
    assert "this is a bug in labctl: RuntimeError('never thought of')" in err
    assert str(log) in err
    assert "Traceback" in log.read_text()


def test_a_bug_s_traceback_and_message_hide_what_looks_like_a_password(bug: Bug) -> None:
    status, err, log = bug("cannot parse mysql+pymysql://nova:geheim77@controller/nova")
    assert status == 3
    for told in (err, log.read_text()):
        assert "cannot parse mysql+pymysql://***@controller/nova" in told
        assert "geheim77" not in told


def test_an_interruption_ends_with_130_and_says_how_to_go_on(
    labctl: Labctl, fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(lab: Lab, node: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "start", interrupted)
    status, _, err = labctl("up", write(tmp_path, SMALL))
    assert status == 130
    assert "interrupted: run the same command again to resume; labctl list shows the current state" in err


# --- changing --------------------------------------------------------------------------------------


def test_down_of_nothing_is_no_error_and_leaves_nothing(labctl: Labctl, home: Path) -> None:
    status, out, _ = labctl("down", "nope")
    assert (status, out) == (0, "nope: nothing to remove\n")
    assert not (home / "labs" / "nope").exists()


def test_down_refuses_what_is_no_name(labctl: Labctl) -> None:
    status, _, err = labctl("down", "Not_A_Lab")
    assert status == 1
    assert "'Not_A_Lab' is not a lab name" in err


def test_up_needs_root_and_says_so(labctl: Labctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    status, _, err = labctl("up", write(tmp_path, SMALL))
    assert status == 1
    assert "error: the driver nspawn needs root to create namespaces and mounts" in err
    assert "try: the same command with sudo" in err
    assert not home.exists()


def test_up_to_an_unknown_stage_names_the_stages(labctl: Labctl) -> None:
    status, _, err = labctl("up", "zed-2node", "--until", "instal")
    assert status == 1
    assert "there is no stage 'instal'; stages: machines, prepare, packages," in err


def test_a_lab_goes_up_is_looked_at_and_goes_down(labctl: Labctl, fake: Fake, tmp_path: Path, home: Path) -> None:
    path = write(tmp_path, SMALL)

    status, out, err = labctl("up", path)
    assert status == 0, err
    assert "infrastructure" in out
    assert "labctl down small" in out
    assert "done infrastructure" in err

    (row,) = json.loads(labctl("list", "-o", "json")[1])
    assert (row["name"], row["machines"], row["stage"]) == ("small", "2/2 running", "infrastructure")
    assert (row["release"], row["base"], row["packages"]) == ("zed", "debian12", "debian")
    assert "small: Zed from Debian's packages on Debian 12, driver nspawn" in out
    seen = json.loads(labctl("status", "small", "-o", "json")[1])
    assert [(n["node"], n["state"]) for n in seen["nodes"]] == [("first", "running"), ("second", "running")]
    assert (seen["release"], seen["base"], seen["packages"]) == ("zed", "debian12", "debian")
    assert labctl("status", "small")[1].startswith("small: Zed from Debian's packages on Debian 12, driver nspawn\n")
    events = [json.loads(line) for line in (home / "labs" / "small" / "events.jsonl").read_text().splitlines()]
    assert ("end", "infrastructure") in [(e["kind"], e["text"]) for e in events]

    status, out, _ = labctl("up", path)
    assert status == 0
    assert "unchanged: machines, prepare, packages, infrastructure" in out

    path.unlink()
    assert labctl("down", "small")[:2] == (0, "small: removed\n")
    assert labctl("down", "small")[:2] == (0, "small: nothing to remove\n")
    assert not exists("small")


def test_a_failure_names_the_lab_in_its_hint(labctl: Labctl, fake: Fake, tmp_path: Path) -> None:
    fake.failures["start mariadb"] = "no space left on device"
    status, _, err = labctl("up", write(tmp_path, SMALL))
    assert status == 1
    assert "'start mariadb' failed" in err
    assert "no space left on device" in err
    assert "try: labctl ssh small first" in err


def test_a_failure_names_the_command_that_continues(
    labctl: Labctl, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lab: Lab, node: str) -> None:
        raise LabError("no such mount")

    monkeypatch.setattr(fake, "create", broken)
    path = write(tmp_path, SMALL)
    _, _, err = labctl("up", path, "--name", "mine", "--release", "zed", "--base", "debian12")
    assert f"try: labctl up {path} --name mine --release zed --base debian12 continues" in err


def test_a_lab_that_another_command_changes_is_not_touched(labctl: Labctl, fake: Fake, tmp_path: Path) -> None:
    with locked("small", "labctl up elsewhere"):
        status, _, err = labctl("up", write(tmp_path, SMALL))
    assert status == 1
    assert f"the lab small is being changed by pid {os.getpid()}: labctl up elsewhere" in err
    assert fake.boxes == {}


def test_env_of_a_lab_without_credentials_says_so(labctl: Labctl, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    Lab.create(specify(path), path)
    status, _, err = labctl("env", "small")
    assert status == 1
    assert "the lab small has no credentials for 'admin'" in err


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


@pytest.mark.parametrize("words", [("schema",), ("plan", "zed-2node"), ("guide", "zed-2node"), ("releases",)])
@pytest.mark.parametrize("buffer", [[], ["-u"]])
def test_output_that_cannot_be_written_is_no_bug(words: tuple[str, ...], buffer: list[str]) -> None:
    run = 'unset PYTHONUNBUFFERED; "$@" >/dev/full'
    said = process.run(["sh", "-c", run, "sh", sys.executable, *buffer, "-m", "labctl", *words], check=False)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == "error: standard output: No space left on device"
    assert "bug" not in said.stderr


@pytest.mark.parametrize("buffer", [[], ["-u"]])
def test_a_reader_that_has_seen_enough_is_told_nothing(buffer: list[str]) -> None:
    run = 'unset PYTHONUNBUFFERED; { "$@"; echo "$?" >&2; } | true'
    said = process.run(["sh", "-c", run, "sh", sys.executable, *buffer, "-m", "labctl", "schema"], check=False)
    assert said.stderr == "1\n"
