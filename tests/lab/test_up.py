"""From a topology to a lab: what is chosen, and what an existing lab refuses to become."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import IDENTITY, SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import cgroup, network
from labctl.lab import down as teardown
from labctl.lab import snapshot
from labctl.lab import up as bring
from labctl.records.directory import exists
from labctl.records.lab import Lab, begin_removal


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    path = write(tmp_path, SMALL)
    return bring.open_lab(specify(path), path)


CHANGES = {
    "another node": ("  second:\n", "  third:\n"),
    "another address": ("10.0.0.12", "10.0.0.13"),
    "another network": ("  management: {cidr: 10.0.0.0/24}", "  management: {cidr: 10.0.0.0/16}"),
    "translation": ("{cidr: 10.0.0.0/24}", "{cidr: 10.0.0.0/24, nat: true}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_running_lab_does_not_become_one_of_another_shape(change: str, lab: Lab, tmp_path: Path) -> None:
    old, new = CHANGES[change]
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new))

    with pytest.raises(LabError) as raised:
        bring.open_lab(specify(path), path)

    assert "differ from the lab small" in raised.value.message
    assert "labctl down small" in raised.value.hint
    assert "--name NAME" in raised.value.hint
    assert Lab.load("small").spec == lab.spec


def test_a_lab_of_another_topology_keeps_its_name(lab: Lab, tmp_path: Path) -> None:
    path = write(tmp_path, IDENTITY)
    with pytest.raises(LabError, match="the lab small already exists with topology small, not identity"):
        bring.open_lab(specify(path, name="small"), path)


def test_a_changed_option_is_taken_over_and_the_lab_stays_the_same(lab: Lab, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "options: {workers: 3}\n")
    again = bring.open_lab(specify(path), path)
    assert again.id == lab.id
    assert Lab.load("small").spec.workers == 3


def test_a_lab_of_another_release_keeps_its_name_and_the_hint_asks_for_that_release(lab: Lab, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    with pytest.raises(LabError, match="the lab small already exists with release zed, not train") as raised:
        bring.open_lab(lab.spec.model_copy(update={"release": "train"}), path)
    assert raised.value.hint == f"labctl down small; labctl up {path} --name NAME --release train creates another lab"


# --- snapshots -------------------------------------------------------------------------------------


def test_snapshots_are_taken_after_the_stages_that_the_topology_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())
    path = write(tmp_path, SMALL + "snapshots: [prepare, infrastructure]\n")
    summary = bring.up(specify(path), path, "verify")
    assert [s.name for s in summary.stages] == ["machines", "prepare", "packages", "sql", "infrastructure"]
    state = Lab.load("small")
    assert [(s.name, s.stage, s.parent) for s in snapshot.snapshots(state)] == [
        ("prepare", "prepare", ""),
        ("infrastructure", "infrastructure", "prepare"),
    ]
    assert len(bring.up(specify(path), path, "verify").stages) == 0
    assert Lab.load("small").stack == state.stack, "a stage that is skipped is not frozen again"


def test_up_from_a_snapshot_runs_the_stages_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())
    path = write(tmp_path, SMALL + "snapshots: [prepare]\n")
    bring.up(specify(path), path, "verify")
    path = write(tmp_path, SMALL + "snapshots: [prepare]\noptions: {workers: 3}\n")

    summary = bring.up(specify(path), path, "verify", "prepare")

    assert [s.name for s in summary.stages] == ["packages", "sql", "infrastructure"]
    assert Lab.load("small").spec.workers == 3
    with pytest.raises(LabError, match="small has no snapshot 'nothing'; snapshots: prepare"):
        bring.up(specify(path), path, "verify", "nothing")
    with pytest.raises(LabError, match="there is no lab named 'other'"):
        bring.up(specify(path, name="other"), path, "verify", "prepare")


def test_up_ends_a_removal_that_was_killed_and_makes_the_lab_anew(
    tmp_path: Path, careful: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())
    path = write(tmp_path, SMALL)
    bring.up(specify(path), path, "verify")
    before = Lab.load("small")
    begin_removal("small")
    assert not exists("small")
    (before.top / "second" / "root").rmdir()  # half gone

    bring.up(specify(path), path, "verify")

    assert Lab.load("small").id != before.id
    assert not (before.directory / "removed.json").exists()


# --- down ------------------------------------------------------------------------------------------


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing outside the test's home is removed, whatever `down` believes."""
    done: list[str] = []

    def kill(lab: str, node: str = "", seconds: float = 10) -> list[int]:
        done.append(f"kill {lab!r} {node!r}")
        return []

    def delete(lab: str) -> list[str]:
        done.append(f"delete {lab!r}")
        return []

    monkeypatch.setattr(cgroup, "kill", kill)
    monkeypatch.setattr(cgroup, "processes", lambda lab, node="": [])
    monkeypatch.setattr(network, "delete", delete)
    monkeypatch.setattr(network, "namespaces", lambda lab: [])
    return done


@pytest.mark.parametrize("name", ["..", "", ".", "../..", "a/../..", "small/nodes", "*"])
def test_down_of_what_is_no_lab_name_touches_nothing(name: str, lab: Lab, careful: list[str]) -> None:
    with pytest.raises(LabError, match="is not a lab name"):
        teardown.down(name)
    assert careful == []
    assert exists("small")


def test_down_removes_one_lab_and_only_that_and_can_be_repeated(
    tmp_path: Path, careful: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    path = write(tmp_path, SMALL)
    for name in ("small", "small-2"):
        bring.up(specify(path, name=name), path, "verify")
    path.unlink()

    assert teardown.down("small")
    assert not teardown.down("small")

    assert not exists("small")
    other = Lab.load("small-2")
    assert {key[0] for key in driver.boxes} == {other.id} == driver.networks


def test_down_removes_what_a_killed_up_left_without_a_record(home: Path, careful: list[str]) -> None:
    left = home / "labs" / "broken" / "nodes" / "first"
    left.mkdir(parents=True)

    assert teardown.down("broken")

    assert not (home / "labs" / "broken").exists()
    kills = [f"kill 'broken' '{group}'" for group in ("_vagrant", "_libvirtd", "")]
    assert careful == [*kills, "delete 'broken'"]


def test_down_names_what_it_could_not_remove(lab: Lab, careful: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(name: str, node: str = "") -> list[int]:
        return [4711]

    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())
    monkeypatch.setattr(cgroup, "kill", lambda name, node="", seconds=10: [4711])
    monkeypatch.setattr(cgroup, "processes", stuck)
    with pytest.raises(LabError, match="could not remove all of small: process 4711") as raised:
        teardown.down("small")
    assert raised.value.hint == "labctl down small"


def test_down_of_a_lab_whose_record_cannot_be_read_removes_it_by_its_mark(lab: Lab, careful: list[str]) -> None:
    (lab.directory / "lab.json").write_text('{"schema": 99}')
    assert teardown.down("small")
    assert not lab.directory.exists()
    kills = [f"kill 'small' '{group}'" for group in ("_vagrant", "_libvirtd", "")]
    assert careful == [*kills, "delete 'small'"]
