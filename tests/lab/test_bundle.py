"""Bundles: one archive tells a lab's state, holds no secret, and is made whatever is broken."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support import IDENTITY, specify, write

from labctl import __main__, drivers
from labctl.diagnose import report
from labctl.drivers.fake import Fake, FakeSession
from labctl.errors import DeadlineError, LabError
from labctl.host.ssh import Result
from labctl.lab import bundle, fault
from labctl.records.lab import Lab

CHOSEN = "chosen-by-the-user"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    driver = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    return driver


@pytest.fixture(autouse=True)
def no_commands_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake's nodes share the host's programs: what a node's state is asked with must say something short."""
    here = tmp_path / "bin"
    here.mkdir()
    for name, said in (
        ("systemctl", "mariadb.service loaded failed"),
        ("ss", "LISTEN 3306"),
        ("ps", "1 init -pchosen"),
    ):
        (here / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:/usr/sbin:/usr/bin:/sbin:/bin")


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    return write(tmp_path, IDENTITY + f"passwords:\n  admin_pass: {CHOSEN}\n")


@pytest.fixture
def lab(fake: Fake, topology: Path) -> Lab:
    """A lab with secrets in every file that a bundle reads."""
    state = Lab.create(specify(topology), topology)
    state.ensure_keys()
    values = {name: s.reveal() for name, s in state.ensure_secrets({"ADMIN_PASS", "KEYSTONE_DBPASS"}).items()}
    for node in state.spec.nodes:
        fake.create(state, node)
        fake.start(state, node)
        root = fake.boxes[(state.id, node)].root
        for name, text in {
            "etc/keystone/keystone.conf": f"connection = mysql+pymysql://keystone:{values['KEYSTONE_DBPASS']}@data/k\n",
            "etc/keystone/fernet-keys/0": "fernet-key-of-the-lab",
            "root/admin-openrc": f"export OS_PASSWORD={values['ADMIN_PASS']}\n",
            "var/log/keystone/keystone.log": f"2026-11-21 09:21:44 admin gave {values['ADMIN_PASS']}\n",
        }.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    with fake.console(state, "data").open("a") as console:
        console.write(f"login with {values['KEYSTONE_DBPASS']}\n")
    (state.directory / "events.jsonl").write_text(json.dumps({"text": values["ADMIN_PASS"]}) + "\n")
    (state.directory / "upgrade").mkdir()
    (state.directory / "upgrade" / "smoke-yoga.log").write_text(f"assert 'x' == '{values['ADMIN_PASS']}'\n")
    return state


def opened(path: Path) -> dict[str, str]:
    """The files of a bundle, below its one directory."""
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        data = plain.read()
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            assert member.mode == 0o600
            found[member.name.partition("/")[2]] = file.read().decode()
    return found


def secrets_of(lab: Lab) -> set[str]:
    keys = [p for p in (lab.directory / "keys").iterdir() if p.suffix != ".pub" and p.name != "known_hosts"]
    lines = {line for key in keys for line in key.read_text().splitlines() if not line.startswith("-----")}
    return {s.reveal() for s in lab.secrets().values()} | lines | {CHOSEN, "fernet-key-of-the-lab"}


# --- what is in it ---------------------------------------------------------------------------------


def test_a_bundle_tells_what_was_done_what_is_and_what_is_wrong(lab: Lab, tmp_path: Path) -> None:
    fault.shape_link(lab, "api", "management", fault.Shape(loss=5))
    target = tmp_path / "x.tar.zst"
    bundle.write(lab, target)
    found = opened(target)
    assert "keystone" in found["plan.txt"]
    assert json.loads(found["lab/lab.json"])["spec"]["name"] == "identity"
    assert "link shaped" in found["lab/faults.json"]
    assert found["lab/upgrade/smoke-yoga.log"] == "assert 'x' == '***'\n", "what a night's hop has failed on"
    assert "labctl " in found["host/versions.txt"]
    assert "admin gave ***" in found["nodes/api/log/keystone/keystone.log"]
    assert found["nodes/api/files/etc/keystone/keystone.conf"] == "connection = mysql+pymysql://***@data/k\n"
    assert "mariadb.service loaded failed" in found["nodes/data/state/failed.txt"]
    assert found["nodes/data/console.txt"].endswith("login with ***\n")
    contents = json.loads(found["contents.json"])
    assert contents["lab"] == "identity"
    assert contents["missing"] == {}
    assert set(contents["files"]) == set(found) - {"contents.json"}


def test_no_secret_is_in_a_bundle_and_only_its_owner_reads_it(lab: Lab, tmp_path: Path) -> None:
    target = tmp_path / "x.tar.zst"
    bundle.write(lab, target)
    assert target.stat().st_mode & 0o777 == 0o600
    secrets = secrets_of(lab)
    assert len(secrets) > 6
    leaks = [(name, s) for name, text in opened(target).items() for s in secrets if s in text]
    assert leaks == []


# --- when things are broken ------------------------------------------------------------------------


def test_a_dead_node_is_named_and_read_from_its_disk(lab: Lab, fake: Fake, tmp_path: Path) -> None:
    fake.stop(lab, "api", 0)
    fake.pause(lab, "data")
    target = tmp_path / "x.tar.zst"
    bundle.write(lab, target)
    found = opened(target)
    missing = json.loads(found["contents.json"])["missing"]
    assert missing == {"nodes/api/state": "api is stopped", "nodes/data/state": "data is paused"}
    assert "admin gave ***" in found["nodes/api/log/keystone/keystone.log"]
    assert "nodes/data/files/root/admin-openrc" in found or "nodes/api/files/etc/keystone/keystone.conf" in found


def test_a_part_without_end_or_with_an_error_costs_only_itself(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = threading.Event()

    def stuck(*_: object) -> dict[str, str]:
        leave.wait()
        return {}

    def broken(*_: object) -> dict[str, str]:
        raise RuntimeError("never thought of")

    monkeypatch.setattr(bundle, "DEADLINE", 3)
    monkeypatch.setattr(bundle, "_logs", stuck)
    monkeypatch.setattr(bundle, "_plan", broken)
    target = tmp_path / "x.tar.zst"
    began = time.monotonic()
    bundle.write(lab, target)
    assert time.monotonic() - began < 15
    leave.set()
    found = opened(target)
    missing = json.loads(found["contents.json"])["missing"]
    assert missing["plan.txt"] == "RuntimeError: never thought of"
    assert missing["nodes/api/log"].startswith("timed out after ")
    assert "nodes/data/console.txt" in found


@pytest.mark.parametrize(("patience", "kept"), [(1.0, False), (20.0, True)])
def test_the_deadline_is_as_much_later_as_the_lab_is_slow(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float, kept: bool
) -> None:
    def slow(*_: object) -> dict[str, str]:
        time.sleep(1.5)
        return {"keystone.log": "came late"}

    lab.spec = lab.spec.model_copy(update={"patience": patience})
    monkeypatch.setattr(bundle, "DEADLINE", 1)
    monkeypatch.setattr(bundle, "_logs", slow)
    target = tmp_path / "x.tar.zst"
    bundle.write(lab, target)
    found = opened(target)
    assert ("nodes/api/log" not in json.loads(found["contents.json"])["missing"]) is kept
    assert (found.get("nodes/api/log/keystone.log") == "came late") is kept


def test_the_states_that_came_before_the_deadline_are_kept(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FakeSession.run

    def slow(self: FakeSession, command: str, **options: Any) -> Result:
        real(self, command, **options)
        raise DeadlineError("timed out after 45 s")

    monkeypatch.setattr(FakeSession, "run", slow)
    target = tmp_path / "x.tar.zst"
    bundle.write(lab, target)
    found = opened(target)
    assert "mariadb.service loaded failed" in found["nodes/data/state/failed.txt"]
    assert "timed out after" in found["nodes/data/state/incomplete.txt"]


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"nowhere/x\.tar\.zst cannot be written: No such file or directory"):
        bundle.write(lab, tmp_path / "nowhere" / "x.tar.zst")


def test_a_bundle_is_whole_or_not_there(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "_pack", full)
    with pytest.raises(LabError, match="No space left on device"):
        bundle.write(lab, tmp_path / "x.tar.zst")
    assert list(tmp_path.glob("*x.tar.zst*")) == []


# --- the commands ----------------------------------------------------------------------------------


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["labctl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            __main__.run()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run


def test_the_command_writes_where_it_is_told_and_says_where(labctl, lab: Lab, tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "told.tar.zst"
    assert labctl("bundle", "identity", "-o", target)[:2] == (0, f"{target}\n")
    assert "plan.txt" in opened(target)
    monkeypatch.chdir(tmp_path)
    status, out, _ = labctl("bundle", "identity")
    assert status == 0
    assert "plan.txt" in opened(tmp_path / out.strip())


def test_up_that_fails_leaves_a_bundle_and_says_where(labctl, fake: Fake, topology: Path, home: Path) -> None:
    fake.failures["start mariadb"] = f"cannot log in with {CHOSEN}"
    status, out, err = labctl("up", topology)
    assert status == 1
    assert "  try: labctl ssh identity data" in err
    (kept,) = (home / "labs" / "identity" / "bundles").iterdir()
    assert f"logs, configuration and states of the lab: {kept}" in err
    assert CHOSEN not in out + err
    leaks = [name for name, text in opened(kept).items() if CHOSEN in text]
    assert leaks == []
    assert "start mariadb" in opened(kept)["plan.txt"]
    assert "diagnosis/findings.json" in opened(kept)
    assert opened(kept)["diagnosis/findings.txt"].splitlines()[0] in err


def test_up_that_is_refused_diagnoses_nothing(labctl, lab: Lab, topology: Path, home: Path) -> None:
    """Nothing was touched, and a diagnosis of emulated machines takes minutes."""
    renamed = topology.with_name("other.yaml")
    renamed.write_text(topology.read_text().replace("name: identity", "name: other", 1))
    status, _, err = labctl("up", renamed, "--name", "identity")
    assert status == 1
    assert "error: the lab identity already exists with topology identity, not other\n" in err
    assert "logs, configuration and states" not in err
    assert not (home / "labs" / "identity" / "bundles").exists()


def test_a_bundle_has_the_diagnosis_for_people_and_programs(labctl, lab: Lab, fake: Fake, tmp_path: Path) -> None:
    fake.stop(lab, "api", 0)
    assert labctl("bundle", "identity", "-o", tmp_path / "x.tar.zst")[0] == 0
    found = opened(tmp_path / "x.tar.zst")
    assert found["diagnosis/findings.txt"].startswith("M1  machine does not run (api, node)\n")
    assert [cause["row"] for cause in json.loads(found["diagnosis/findings.json"])["causes"]] == ["M1"]


def test_a_bundle_is_made_when_its_diagnosis_fails_or_has_no_time(
    labctl, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.tar.zst"
    monkeypatch.setattr(report, "diagnose", lambda *_: 1 / 0)
    assert labctl("bundle", "identity", "-o", target)[0] == 0
    assert opened(target)["diagnosis/findings.txt"] == "(no diagnosis: ZeroDivisionError: division by zero)\n"

    forever = threading.Event()
    monkeypatch.setattr(report, "diagnose", lambda *_: forever.wait(60))
    monkeypatch.setattr(bundle, "DEADLINE", 3)
    status, _, err = labctl("bundle", "identity", "-o", target)
    forever.set()
    assert status == 0
    assert "the bundle lacks diagnosis: timed out after" in err
    assert "diagnosis" in json.loads(opened(target)["contents.json"])["missing"]
    assert "plan.txt" in opened(target)


def test_up_that_fails_before_there_is_a_machine_makes_no_bundle(
    labctl, fake: Fake, topology: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise LabError("no image")

    monkeypatch.setattr(fake, "image", cannot)
    status, _, err = labctl("up", topology)
    assert status == 1
    assert "error: no image" in err
    assert not (home / "labs" / "identity" / "bundles").exists()


def test_only_the_last_automatic_bundles_are_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(10))
    monkeypatch.setattr(bundle, "file_name", lambda name: f"{name}-{next(numbers)}.tar.zst")
    for _ in range(5):
        assert bundle.after_failure("identity") is not None
    assert sorted(p.name for p in (lab.directory / "bundles").iterdir()) == [f"identity-{n}.tar.zst" for n in (2, 3, 4)]


def test_a_bundle_that_fails_does_not_hide_the_failure_it_is_for(
    labctl, fake: Fake, topology: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "_pack", full)
    fake.failures["start mariadb"] = "died"
    status, _, err = labctl("up", topology)
    assert status == 1
    assert "'start mariadb' failed" in err
    assert "no bundle: " in err


def test_secrets_are_printed_on_purpose(labctl, lab: Lab) -> None:
    values = {name: s.reveal() for name, s in lab.secrets().items()}
    status, out, _ = labctl("secrets", "identity", "-o", "json")
    assert status == 0
    assert {row["name"]: row["value"] for row in json.loads(out)} == values
    assert values["ADMIN_PASS"] == CHOSEN
    assert CHOSEN in labctl("secrets", "identity")[1]
    assert labctl("secrets", "identity", "ADMIN_PASS")[1] == f"{CHOSEN}\n"
    status, _, err = labctl("secrets", "identity", "NO_PASS")
    assert status == 1
    assert "identity has no secret 'NO_PASS'; it has ADMIN_PASS" in err
