"""What state labs are in, and bringing them back."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, LabError
from labctl.lab import condition as conditions
from labctl.lab import fault, repair
from labctl.records import directory
from labctl.records.lab import Lab, begin_removal


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
    driver.stages.clear()
    return made


def condition(lab: Lab) -> tuple[str, str]:
    return conditions.condition(Lab.load(lab.name))


def test_a_lab_that_runs_needs_nothing(lab: Lab, driver: Fake) -> None:
    assert condition(lab) == ("2/2 running", "")
    assert repair.repair(lab) == []


def test_a_dead_machine_is_seen_and_started_and_no_stage_runs(lab: Lab, driver: Fake) -> None:
    journal = lab.journal()
    driver.stop(lab, "second", 0)
    assert condition(lab) == ("1/2 running", "labctl repair small")
    assert repair.repair(lab) == ["second"]
    assert condition(lab) == ("2/2 running", "")
    assert {stage for stage, _ in driver.stages} == {"health"}
    assert lab.journal() == journal


def test_after_a_restart_of_the_host_everything_is_made_again(lab: Lab, driver: Fake) -> None:
    (driver.boxes[(lab.id, "first")].root / "file").write_text("kept")
    driver.boxes.clear()
    driver.networks.clear()
    assert condition(lab) == ("gone", "labctl repair small")
    assert repair.repair(lab) == ["first", "second"]
    assert (driver.boxes[(lab.id, "first")].root / "file").read_text() == "kept"
    assert driver.networks == {lab.id}


def test_running_machines_without_their_network_are_started_anew(lab: Lab, driver: Fake) -> None:
    driver.networks.clear()
    assert condition(lab) == ("2/2 running, 2 cut off", "labctl repair small")
    assert repair.repair(lab) == ["first", "second"]
    assert condition(lab) == ("2/2 running", "")


def test_up_starts_machines_without_their_network_anew_too(lab: Lab, driver: Fake) -> None:
    driver.networks.clear()
    summary = Engine(lab, no_guest).up()
    assert summary.stages[0].name == "machines"
    assert driver.networks == {lab.id}


def test_a_lab_that_is_not_well_afterwards_is_an_error(lab: Lab, driver: Fake) -> None:
    driver.failures["2 units run"] = "unit etcd.service is failed: bad data"
    driver.stop(lab, "second", 0)
    with pytest.raises(BrokenLabError, match=r"second: etcd.service is failed: bad data"):
        repair.repair(lab)


def test_faults_are_undone(lab: Lab, driver: Fake) -> None:
    fault.pause_node(lab, "first")
    fault.kill_node(lab, "second")
    assert repair.repair(lab) == ["second"]
    assert fault.active(lab) == ()
    assert not driver.machine(lab, "first").paused


def test_a_lab_whose_layer_is_gone_says_so(lab: Lab, driver: Fake) -> None:
    lab.meta["stack"] = ["7"]
    with pytest.raises(LabError, match=r"the writable layer of small is missing: .*layers/7") as raised:
        repair.repair(lab)
    assert raised.value.hint == "labctl down small"


def test_labs_without_a_record_are_listed_with_the_way_out(lab: Lab, home: Path) -> None:
    (home / "labs" / "odd").mkdir()
    assert directory.every() == ["odd", "small"]
    assert (directory.remnant("odd"), directory.remnant("small")) == ("no record", "")
    begin_removal("small")
    assert directory.remnant("small") == "half removed"


def test_a_lab_whose_machines_were_never_made_is_brought_up(tmp_path: Path, driver: Fake) -> None:
    path = write(tmp_path, SMALL)
    made = Lab.create(specify(path, name="new"), path)
    assert condition(made) == ("not created yet", f"labctl up {path} --name new")
