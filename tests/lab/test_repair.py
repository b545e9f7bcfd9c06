"""What state labs are in, and bringing them back."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.execute import Engine, no_guest
from labctl.errors import BrokenLabError, LabError
from labctl.lab import fault, repair
from labctl.lab.state import LabState, begin_removal


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.DRIVERS, "nspawn", made)
    return made


@pytest.fixture
def lab(tmp_path: Path, driver: Fake) -> LabState:
    path = write(tmp_path, SMALL)
    made = LabState.create(specify(path), path)
    Engine(made, driver, no_guest).up()
    driver.stages.clear()
    return made


def condition(lab: LabState, driver: Fake) -> tuple[str, str]:
    return repair.condition(LabState.load(lab.name), driver)


def test_a_lab_that_runs_needs_nothing(lab: LabState, driver: Fake) -> None:
    assert condition(lab, driver) == ("2/2 running", "")
    assert repair.repair(lab, driver) == []


def test_a_dead_machine_is_seen_and_started_and_no_stage_runs(lab: LabState, driver: Fake) -> None:
    journal = lab.journal()
    driver.stop(lab, "second", 0)
    assert condition(lab, driver) == ("1/2 running", "labctl repair small")
    assert repair.repair(lab, driver) == ["second"]
    assert condition(lab, driver) == ("2/2 running", "")
    assert {stage for stage, _ in driver.stages} == {"health"}
    assert lab.journal() == journal


def test_after_a_restart_of_the_host_everything_is_made_again(lab: LabState, driver: Fake) -> None:
    (driver.boxes[(lab.id, "first")].root / "file").write_text("kept")
    driver.boxes.clear()
    driver.networks.clear()
    assert condition(lab, driver) == ("gone", "labctl repair small")
    assert repair.repair(lab, driver) == ["first", "second"]
    assert (driver.boxes[(lab.id, "first")].root / "file").read_text() == "kept"
    assert driver.networks == {lab.id}


def test_running_machines_without_their_network_are_started_anew(lab: LabState, driver: Fake) -> None:
    driver.networks.clear()
    assert condition(lab, driver) == ("2/2 running, 2 cut off", "labctl repair small")
    assert repair.repair(lab, driver) == ["first", "second"]
    assert condition(lab, driver) == ("2/2 running", "")


def test_up_starts_machines_without_their_network_anew_too(lab: LabState, driver: Fake) -> None:
    driver.networks.clear()
    summary = Engine(lab, driver, no_guest).up()
    assert summary.stages[0].name == "machines"
    assert driver.networks == {lab.id}


def test_a_lab_that_is_not_well_afterwards_is_an_error(lab: LabState, driver: Fake) -> None:
    driver.failures["2 units run"] = "unit etcd.service is failed: bad data"
    driver.stop(lab, "second", 0)
    with pytest.raises(BrokenLabError, match=r"second: etcd.service is failed: bad data"):
        repair.repair(lab, driver)


def test_faults_are_undone(lab: LabState, driver: Fake) -> None:
    fault.pause_node(lab, "first")
    fault.kill_node(lab, "second")
    assert repair.repair(lab, driver) == ["second"]
    assert fault.active(lab) == ()
    assert not driver.machine(lab, "first").paused


def test_a_lab_whose_layer_is_gone_says_so(lab: LabState, driver: Fake) -> None:
    lab.meta["stack"] = ["7"]
    with pytest.raises(LabError, match=r"layers/7, into which small writes, is gone") as raised:
        repair.repair(lab, driver)
    assert raised.value.hint == "labctl down small"


def test_labs_without_a_record_are_listed_with_the_way_out(lab: LabState, home: Path) -> None:
    (home / "labs" / "odd").mkdir()
    assert repair.recorded() == ["odd", "small"]
    assert (repair.remnant("odd"), repair.remnant("small")) == ("no record", "")
    begin_removal("small")
    assert repair.remnant("small") == "half removed"


def test_a_lab_whose_machines_were_never_made_is_brought_up(tmp_path: Path, driver: Fake) -> None:
    path = write(tmp_path, SMALL)
    made = LabState.create(specify(path, name="new"), path)
    assert condition(made, driver) == ("not made yet", f"labctl up {path} --name new")
