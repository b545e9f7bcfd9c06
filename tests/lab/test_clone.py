"""Clones: the same content and secrets, another identity, and no tie to the lab they came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from apis import Apis
from commandline import Labctl
from support import IDENTITY, SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, LabError
from labctl.lab import clone, snapshot
from labctl.records import lease
from labctl.records.directory import exists
from labctl.records.lab import Lab, remove_directory


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


@pytest.fixture
def lab(tmp_path: Path, driver: Fake) -> Lab:
    path = write(tmp_path, SMALL)
    made = Lab.create(specify(path), path)
    Engine(made, no_guest).up()
    return made


def tell(lab: Lab, driver: Fake, text: str) -> None:
    with driver.connect(lab, "first", 1) as session:
        assert session.run(f"echo {text} >told", timeout=10).status == 0


def told(lab: Lab, driver: Fake) -> str:
    with driver.connect(lab, "first", 1) as session:
        return session.run("cat told", timeout=10).stdout.strip()


def test_a_clone_has_the_content_and_goes_its_own_way(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "shared")
    copy = clone.clone(lab, "copy")
    assert (told(lab, driver), told(copy, driver)) == ("shared", "shared")
    tell(copy, driver, "mine")
    assert told(lab, driver) == "shared"
    assert all(driver.machine(each, n).running for each in (lab, copy) for n in lab.spec.nodes)


def test_what_says_who_a_machine_is_is_made_anew_and_the_rest_stays(
    tmp_path: Path, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    Apis.instead(monkeypatch)
    path = write(tmp_path, IDENTITY)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up()

    copy = clone.clone(lab, "copy")

    assert (copy.name, copy.id != lab.id) == ("copy", True)
    assert copy.spec == specify(path, name="copy"), "as `labctl up --name copy` would resolve it"
    assert copy.spec.nodes["api"].interfaces[0].mac != lab.spec.nodes["api"].interfaces[0].mac
    assert copy.spec.nodes["api"].interfaces[0].address == lab.spec.nodes["api"].interfaces[0].address
    assert (copy.secrets(), copy.journal()) == (lab.secrets(), lab.journal())
    assert copy.secrets()
    for key in ("data", "api", "id_ed25519"):
        assert (copy.directory / "keys" / key).read_bytes() != (lab.directory / "keys" / key).read_bytes()
    summary = Engine(Lab.load("copy"), no_guest).up()
    assert [s.name for s in summary.stages] == ["verify"]


def test_either_of_the_two_can_go_first(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "shared")
    copy = clone.clone(lab, "copy")
    snapshot.create(copy, "ready")
    tell(copy, driver, "later")
    assert remove_directory(lab.directory)
    snapshot.restore(copy, "ready")
    assert told(copy, driver) == "shared"


def test_a_clone_has_no_snapshots_but_can_be_cloned(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "ready")
    copy = clone.clone(lab, "copy")
    assert snapshot.snapshots(copy) == []
    tell(copy, driver, "deep")
    assert told(clone.clone(copy, "third"), driver) == "deep"


@pytest.mark.parametrize("name", ["small", "..", "A", "a" * 41, ""])
def test_a_name_that_is_taken_or_none_is_refused_before_anything_stops(name: str, lab: Lab, driver: Fake) -> None:
    with pytest.raises(LabError, match=r"already exists|is not a lab name"):
        clone.clone(lab, name)
    assert driver.rested == []


def test_what_is_left_of_an_earlier_lab_is_not_built_upon(lab: Lab, driver: Fake) -> None:
    (lab.directory.parent / "copy").mkdir()
    with pytest.raises(LabError, match="leftovers of an earlier lab copy exist") as raised:
        clone.clone(lab, "copy")
    assert raised.value.hint == "labctl down copy"


def test_a_lab_that_does_not_run_is_not_cloned(lab: Lab, driver: Fake) -> None:
    driver.stop(lab, "second", 0)
    with pytest.raises(BrokenLabError, match="second of small is not running"):
        clone.clone(lab, "copy")
    assert not exists("copy")


def test_a_copy_that_fails_leaves_nothing_and_the_lab_running(
    lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(lab, driver, "kept")

    def full(source: Path, target: Path) -> None:
        target.mkdir(parents=True)
        raise LabError("no space left on device")

    monkeypatch.setattr(clone.sparse, "link", full)
    with pytest.raises(LabError, match="no space"):
        clone.clone(lab, "copy")
    assert not (lab.directory.parent / "copy").exists()
    assert told(Lab.load("small"), driver) == "kept"


def test_what_a_killed_clone_left_does_not_become_a_lab(lab: Lab, driver: Fake, tmp_path: Path) -> None:
    left = lab.directory.parent / "copy" / "layers" / "1" / "first"
    left.mkdir(parents=True)
    with pytest.raises(LabError, match="has machines, but no record") as raised:
        Lab.create(specify(write(tmp_path, SMALL), name="copy"), tmp_path)
    assert raised.value.hint == "labctl down copy"


# --- of a snapshot ---------------------------------------------------------------------------------


def test_a_clone_of_a_snapshot_leaves_the_lab_alone_and_has_the_snapshot(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "then")
    snapshot.create(lab, "ready")
    tell(lab, driver, "now")
    driver.rested.clear()

    copy = clone.clone_snapshot(lab, "ready", "copy")

    assert (told(copy, driver), told(lab, driver), driver.rested) == ("then", "now", [])
    assert remove_directory(lab.directory)
    tell(copy, driver, "mine")
    again = Lab.load("copy")
    snapshot.restore(again, "ready")
    assert (told(again, driver), again.name, again.spec) == ("then", "copy", copy.spec)


def test_the_command_takes_a_lab_or_its_snapshot(lab: Lab, driver: Fake, labctl: Labctl) -> None:
    tell(lab, driver, "then")
    snapshot.create(lab, "ready")
    assert labctl("clone", "small/ready", "copy", "--ttl", "8h", "--owner", "otto")[0] == 0
    copy = Lab.load("copy")
    assert (told(copy, driver), lease.owner(copy), (lease.left(copy) or 0) > 7 * 3600) == ("then", "otto", True)
    assert labctl("clone", "small", "third")[0] == 0
    assert (lease.owner(Lab.load("third")), lease.left(Lab.load("third"))) == (lease.user(), None)
    status, _, err = labctl("clone", "small/none", "fourth")
    assert (status, "small has no snapshot 'none'" in err, exists("fourth")) == (1, True, False)
