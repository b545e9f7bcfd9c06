"""The command line: what is printed, where, and with which status it ends."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Labctl
from support import ROOT, SMALL, specify, write

from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import process
from labctl.records.directory import exists
from labctl.records.lab import Lab, locked

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


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("release: zed", "release: queens", "unknown release 'queens'"),
        ("bases: [debian12]", "bases: [debian11]", "unknown base 'debian11'"),
        ("drivers: [nspawn, libvirt, vagrant, openstack]", "drivers: [docker]", "unknown driver 'docker'"),
    ],
)
def test_what_validate_calls_unknown_is_unknown_to_plan_and_up(
    labctl: Labctl, tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    path = tmp_path / "own.yaml"
    text = (ROOT / "topologies" / "zed-2node.yaml").read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, 1))
    answers = {
        labctl(*words, str(path))[2].split("error: ")[-1] for words in (["validate"], ["plan"], ["up", "--dry-run"])
    }
    assert len(answers) == 1
    assert said in answers.pop()


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
    dry, plan = labctl("up", "zed-2node", "--dry-run"), labctl("plan", "zed-2node")
    assert dry[:2] == plan[:2]
    # the progress on stderr begins each line with the seconds since the command's start
    said = [re.sub(r"^ *[\d.]+s", "", err, flags=re.MULTILINE) for _, _, err in (dry, plan)]
    assert said[0] == said[1]
    assert not home.exists()


def test_plan_script_shows_programs_and_files_without_secrets(labctl: Labctl) -> None:
    status, out, _ = labctl("plan", "zed-2node", "--script", "compute")
    assert status == 0
    assert "### file /etc/nova/nova.conf (root:nova 0640)" in out
    assert "password = ***" in out
    assert "\x02" not in out


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
    assert "FACT MITAKA ROCKY TRAIN USSURI ZED CARACAL EPOXY GAZPACHO" in lines
    assert "cells_v2 no yes yes yes yes yes yes yes" in lines
    assert "versions pypi nova - 18.3.0 20.6.1 21.2.4 26.3.0 29.4.0 31.3.1 33.0.2" in lines


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

        monkeypatch.setattr("labctl.records.directory.every", broken)
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
    assert "unchanged: machines, prepare, packages, sql, infrastructure" in out

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
