"""A lab's state on disk: whole or not at all, secrets kept, names and locks."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import IDENTITY, SMALL, specify, write

from labctl.errors import LabError
from labctl.host import files, paths, process
from labctl.host.files import write_atomic
from labctl.records import lab as labs
from labctl.records.directory import exists, half_removed, names
from labctl.records.journal import Journal, StageRecord
from labctl.records.lab import Lab, begin_removal, locked, remove_directory

RECORD = StageRecord("prepare", "abc", 1.0, 2.0, 3.0, 4, 5)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    path = write(tmp_path, IDENTITY)
    return Lab.create(specify(path), path)


# --- files -----------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.json"
    write_atomic(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new and longer")
    assert path.read_text() == "old"


def test_a_reader_sees_the_old_or_the_new_file_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    texts = {"a" * 200_000, "b" * 300_000}
    write_atomic(path, max(texts))
    writer = (
        "import sys; from pathlib import Path; from labctl.host.files import write_atomic\n"
        "for i in range(200): write_atomic(Path(sys.argv[1]), 'a' * 200000 if i % 2 else 'b' * 300000)"
    )
    running = process.start([sys.executable, "-c", writer, path])
    seen = set()
    while running.poll() is None:
        seen.add(path.read_text())
    assert running.returncode == 0
    assert seen <= texts
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["lab.json"]


def test_what_was_saved_is_what_is_loaded(lab: Lab) -> None:
    lab.record_image((Path("/images/x"), Path("/images/y")))
    again = Lab.load("identity")
    assert again.layers == (Path("/images/x"), Path("/images/y"))
    assert (again.spec, again.meta, again.id) == (lab.spec, lab.meta, lab.id)


def test_a_lab_keeps_its_journal(lab: Lab) -> None:
    assert lab.journal() == Journal()
    lab.save_journal(Journal([RECORD]))
    journal = Lab.load("identity").journal()
    assert journal.record("prepare") == RECORD
    journal.forget_from(("prepare", "packages"))
    assert journal.record("prepare") is None


def test_state_of_another_version_is_refused(lab: Lab) -> None:
    path = lab.directory / "lab.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(LabError, match="written by another version of labctl"):
        Lab.load("identity")


# --- names -----------------------------------------------------------------------------------------


def test_an_unknown_lab_names_the_known_ones(lab: Lab, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    Lab.create(specify(path, name="another"), path)
    with pytest.raises(LabError) as raised:
        Lab.load("identiy")
    assert raised.value.message == "there is no lab named 'identiy'; labs: another, identity"
    assert "labctl up" in raised.value.hint


def test_without_labs_there_are_no_names() -> None:
    assert names() == []
    assert not exists("anything")
    with pytest.raises(LabError, match="labs: none"):
        Lab.load("anything")


def test_a_name_is_taken_once(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="a lab named identity already exists"):
        Lab.create(lab.spec, tmp_path)


def test_each_lab_has_an_id_of_its_own(lab: Lab, tmp_path: Path) -> None:
    first = lab.id
    assert remove_directory(lab.directory)
    assert names() == []
    assert Lab.create(lab.spec, tmp_path).id != first


def test_a_removal_that_was_killed_half_way_is_still_known(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.directory / "nodes" / "controller").mkdir(parents=True)
    begin_removal(lab.name)

    def killed(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(labs.files, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_directory(lab.directory)
    assert half_removed(lab.name)
    with monkeypatch.context() as patch:
        patch.setattr(labs.files, "remove", lambda *_, **__: [])
        assert not remove_directory(lab.directory)
    assert half_removed(lab.name), "what could not be deleted is still a lab whose removal goes on"
    assert remove_directory(lab.directory)
    assert not half_removed(lab.name)


# --- secrets and keys ------------------------------------------------------------------------------


def test_secrets_are_random_and_stay_the_same(lab: Lab) -> None:
    first = lab.ensure_secrets({"ADMIN_PASS", "DEMO_PASS"})
    again = Lab.load("identity").ensure_secrets({"ADMIN_PASS", "GLANCE_PASS"})

    assert first["ADMIN_PASS"] != first["DEMO_PASS"]
    assert len(first["ADMIN_PASS"].reveal()) >= 20
    assert {k: again[k] for k in first} == first
    assert set(Lab.load("identity").secrets()) == {"ADMIN_PASS", "DEMO_PASS", "GLANCE_PASS"}


def test_a_password_of_the_topology_wins_even_over_an_older_secret(lab: Lab) -> None:
    lab.ensure_secrets({"ADMIN_PASS", "DEMO_PASS"})
    lab.spec = lab.spec.model_copy(update={"passwords": {"admin_pass": "chosen-one"}})
    wanted = lab.ensure_secrets({"ADMIN_PASS", "DEMO_PASS"})
    assert wanted["ADMIN_PASS"].reveal() == "chosen-one"
    assert lab.secrets() == wanted


def test_secrets_and_keys_are_readable_by_their_owner_only(lab: Lab) -> None:
    old = os.umask(0)
    try:
        lab.ensure_secrets({"ADMIN_PASS"})
        lab.ensure_keys()
        lab.save()
    finally:
        os.umask(old)
    private = [lab.directory / "lab.json", lab.top / "secrets.json"]
    private += [lab.directory / "keys" / n for n in ("id_ed25519", "data", "api")]
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in private} == {p.name: "0o600" for p in private}


def test_a_secret_never_prints_itself(lab: Lab) -> None:
    made = lab.ensure_secrets({"ADMIN_PASS"})
    assert made["ADMIN_PASS"].reveal() not in f"{made} {made['ADMIN_PASS']}"


def test_keys_are_made_once_and_known_by_name_and_address(lab: Lab) -> None:
    lab.ensure_keys()
    before = {p.name: p.read_text() for p in (lab.directory / "keys").iterdir()}
    lab.ensure_keys()
    assert {p.name: p.read_text() for p in (lab.directory / "keys").iterdir()} == before
    known = before["known_hosts"].splitlines()
    assert known == [
        f"data,10.0.0.11 {' '.join(lab.host_key('data').split()[:2])}",
        f"api,10.0.0.12 {' '.join(lab.host_key('api').split()[:2])}",
    ]


# --- locks -----------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from labctl.records.lab import locked
with locked("mine", "labctl up zed-2node"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path, home: Path) -> Iterator[int]:
    """Another process that holds the lab ``mine``."""
    with (tmp_path / "out").open("wb") as log:
        running = process.start([sys.executable, "-c", HOLDER], log=log)
    deadline = time.monotonic() + 20
    while "held" not in (tmp_path / "out").read_text():
        assert time.monotonic() < deadline, (tmp_path / "out").read_text()
        time.sleep(0.02)
    yield running.pid
    running.kill()
    running.wait()


def test_a_held_lab_says_who_holds_it(holder: int) -> None:
    with pytest.raises(LabError) as raised, locked("mine", "labctl down mine"):
        pytest.fail("two processes hold one lab")
    assert raised.value.message == f"the lab mine is being changed by pid {holder}: labctl up zed-2node"


def test_another_lab_is_free_meanwhile(holder: int) -> None:
    with locked("other", "labctl up"):
        pass


def test_a_lock_ends_with_its_process(holder: int) -> None:
    os.kill(holder, 9)
    deadline = time.monotonic() + 10
    while True:
        try:
            with locked("mine", "labctl down mine"):
                return
        except LabError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_lock_of_a_lab_that_does_not_exist_leaves_no_file(lab: Lab, home: Path) -> None:
    for name in ("identity", "nothing"):
        with locked(name, "labctl down"):
            assert (home / "locks" / f"{name}.lock").exists()
    assert [p.name for p in (home / "locks").iterdir()] == ["identity.lock"]


def test_a_home_that_cannot_be_written_is_an_error_and_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", "/proc/nowhere")
    with pytest.raises(LabError, match="labctl cannot write to /proc/nowhere"), locked("mine", "labctl up"):
        pytest.fail("there is no lock")


# --- killed in the middle --------------------------------------------------------------------------


def test_a_directory_that_a_killed_up_left_before_its_record_becomes_the_lab(lab: Lab, tmp_path: Path) -> None:
    (lab.directory / "lab.json").unlink()
    assert Lab.create(lab.spec, tmp_path).id != lab.id
    assert exists("identity")


def test_machines_without_a_record_are_not_taken_over(lab: Lab, tmp_path: Path) -> None:
    (lab.directory / "lab.json").unlink()
    (lab.directory / "nodes" / "api").mkdir(parents=True)
    with pytest.raises(LabError, match="has machines, but no record") as raised:
        Lab.create(lab.spec, tmp_path)
    assert raised.value.hint == "labctl down identity"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1, "spec": {"name": "identity"}}'])
def test_a_record_that_is_none_is_an_error_with_the_way_out(text: str, lab: Lab) -> None:
    (lab.directory / "lab.json").write_text(text)
    with pytest.raises(LabError, match="cannot be read") as raised:
        Lab.load("identity")
    assert raised.value.hint == "labctl down identity"


def test_a_home_behind_a_symbolic_link_is_named_as_the_kernel_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "link"))
    assert paths.home() == tmp_path.resolve() / "real"
