"""Snapshots: what comes back is what was there, killed anywhere it is the old state or the new one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from apis import Apis
from support import IDENTITY, SMALL, specify, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import BrokenLabError, LabError
from labctl.host import sparse
from labctl.lab import fault, snapshot
from labctl.records import access
from labctl.records.lab import GOES_ON, MEMORY, Lab
from labctl.topology.spec import LabSpec


class KilledError(BaseException):
    """labctl ends here, as if killed: nothing is cleaned up."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


@pytest.fixture
def lab(tmp_path: Path, driver: Fake) -> Lab:
    return built(tmp_path, driver, SMALL)


def built(tmp_path: Path, driver: Fake, text: str) -> Lab:
    path = write(tmp_path, text)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up()
    return lab


def tell(lab: Lab, driver: Fake, text: str, node: str = "first") -> None:
    """Write a file on a node."""
    with driver.connect(lab, node, 1) as session:
        assert session.run(f"echo {text} >told", timeout=10).status == 0


def told(lab: Lab, driver: Fake, node: str = "first") -> str:
    """Read it."""
    with driver.connect(lab, node, 1) as session:
        return session.run("cat told", timeout=10).stdout.strip()


def again(lab: Lab) -> Lab:
    """The lab as another process reads it."""
    return Lab.load(lab.name)


def layers(lab: Lab) -> list[str]:
    return sorted(p.name for p in (lab.directory / "layers").iterdir())


# --- there and back --------------------------------------------------------------------------------


def test_what_was_done_after_a_snapshot_is_gone_after_its_restore(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "before")
    made = snapshot.create(lab, "ready")
    assert told(lab, driver) == "before"
    tell(lab, driver, "after")
    tell(lab, driver, "more", "second")

    for _ in range(2):
        snapshot.restore(again(lab), "ready")
        assert told(again(lab), driver) == "before"
        assert told(again(lab), driver, "second") == ""
        tell(again(lab), driver, "lost")

    assert [s.name for s in snapshot.snapshots(again(lab))] == ["ready"]
    assert made.stack == ("1",)


def test_snapshots_make_a_tree_and_each_can_be_come_back_to(lab: Lab, driver: Fake) -> None:
    for text in ("one", "two"):
        tell(lab, driver, text)
        snapshot.create(lab, text)
    snapshot.restore(lab, "one")
    tell(lab, driver, "three")
    snapshot.create(lab, "three")

    for text in ("two", "one", "three"):
        snapshot.restore(lab, text)
        assert told(lab, driver) == text
    parents = {s.name: s.parent for s in snapshot.snapshots(lab)}
    assert parents == {"one": "", "two": "one", "three": "one"}


def test_nodes_that_others_write_to_come_to_rest_last(lab: Lab, driver: Fake) -> None:
    without_etcd = lab.spec.nodes["second"].model_copy(update={"runs": ()})
    lab.spec = lab.spec.model_copy(update={"nodes": {**lab.spec.nodes, "second": without_etcd}})
    snapshot.create(lab, "ready")
    assert driver.rested == ["second", "first"]


def test_journal_secrets_and_spec_are_those_of_the_snapshot(tmp_path: Path, driver: Fake, apis_: Apis) -> None:
    lab = built(tmp_path, driver, IDENTITY)
    secrets, journal, spec = lab.secrets(), lab.journal(), lab.spec
    snapshot.create(lab, "ready")

    lab.spec = lab.spec.model_copy(update={"passwords": {"admin_pass": "another-one"}, "workers": 3})
    lab.save()
    Engine(lab, no_guest).up()
    assert lab.secrets() != secrets
    assert access.environment(lab)["OS_PASSWORD"] == "another-one"

    snapshot.restore(lab, "ready")

    assert (again(lab).secrets(), again(lab).spec) == (secrets, spec)
    assert again(lab).journal() == journal
    assert access.environment(lab)["OS_PASSWORD"] == secrets["ADMIN_PASS"].reveal()
    summary = Engine(again(lab), driver, no_guest).up()
    assert [s.name for s in summary.stages] == ["verify"]
    assert summary.changed == 0


@pytest.fixture
def apis_(monkeypatch: pytest.MonkeyPatch) -> Apis:
    return Apis.instead(monkeypatch)


def test_the_labs_own_things_stay(lab: Lab, driver: Fake) -> None:
    keys = {p.name: p.read_bytes() for p in (lab.directory / "keys").iterdir()}
    snapshot.create(lab, "ready")
    snapshot.create(lab, "later")
    snapshot.restore(lab, "ready")
    found = again(lab)
    assert (found.id, found.meta["created"]) == (lab.id, lab.meta["created"])
    assert {p.name: p.read_bytes() for p in (lab.directory / "keys").iterdir()} == keys
    assert sorted(s.name for s in snapshot.snapshots(found)) == ["later", "ready"]


def test_a_restore_undoes_faults_and_a_snapshot_holds_none(
    lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(drivers.LOADED, "nspawn", driver)
    snapshot.create(lab, "ready")
    fault.pause_node(lab, "second")
    with pytest.raises(BrokenLabError, match="small has active faults: second paused") as raised:
        snapshot.create(lab, "broken")
    assert raised.value.hint == "labctl fault heal small"

    snapshot.restore(lab, "ready")

    assert fault.active(again(lab)) == ()
    assert not driver.machine(lab, "second").paused


def test_a_node_that_joined_after_the_snapshot_goes_with_the_restore(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "two")
    lab.spec = with_third(lab.spec)
    lab.save()
    lab.ensure_keys()
    driver.create(lab, "third")
    driver.start(lab, "third")

    snapshot.restore(lab, "two")

    assert list(again(lab).spec.nodes) == ["first", "second"]
    assert (lab.id, "third") not in driver.boxes
    assert "third" not in (lab.directory / "keys" / "known_hosts").read_text()


def with_third(spec: LabSpec) -> LabSpec:
    card = spec.nodes["second"].interfaces[0].model_copy(update={"address": "10.0.0.13"})
    third = spec.nodes["second"].model_copy(update={"name": "third", "interfaces": (card,)})
    return LabSpec.model_validate({**spec.model_dump(), "nodes": {**spec.nodes, "third": third}})


def test_dead_machines_are_no_obstacle_to_a_restore_but_to_a_snapshot(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "kept")
    snapshot.create(lab, "ready")
    driver.stop(lab, "second", 0)
    with pytest.raises(BrokenLabError, match="second of small is not running") as raised:
        snapshot.create(lab, "broken")
    assert raised.value.hint == "labctl repair small"
    for node in lab.spec.nodes:
        driver.destroy(lab, node)
    snapshot.restore(lab, "ready")
    assert told(lab, driver) == "kept"


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "..", "a/b", "Ready", "1st", "-", "a" * 41, "a b"])
def test_what_is_no_name_is_refused(name: str, lab: Lab, driver: Fake) -> None:
    with pytest.raises(LabError, match="is not a snapshot name"):
        snapshot.create(lab, name)
    assert driver.rested == []


def test_a_name_is_taken_once_and_unknown_ones_name_the_known(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "ready")
    with pytest.raises(LabError, match="small already has a snapshot 'ready'"):
        snapshot.create(lab, "ready")
    for call in (snapshot.delete, lambda lab, name: snapshot.restore(lab, name)):
        with pytest.raises(LabError, match="small has no snapshot 'raedy'; snapshots: ready"):
            call(lab, "raedy")


def test_a_snapshot_after_a_stage_takes_the_place_of_the_earlier_one(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "old")
    snapshot.create(lab, "keystone", stage="keystone")
    tell(lab, driver, "new")
    snapshot.create(lab, "keystone", stage="keystone")
    snapshot.restore(lab, "keystone")
    assert told(lab, driver) == "new"
    snapshot.create(lab, "mine")
    with pytest.raises(LabError, match="already has a snapshot 'mine'"):
        snapshot.create(lab, "mine", stage="mine")


# --- what is kept, and what is removed -------------------------------------------------------------


def test_a_layer_goes_when_nothing_stands_on_it(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "one")
    snapshot.create(lab, "two")
    assert layers(lab) == ["1", "2", "3"]
    snapshot.delete(lab, "one")
    assert layers(lab) == ["1", "2", "3"], "two and the lab stand on it"
    assert [(s.name, s.parent) for s in snapshot.snapshots(lab)] == [("two", "")]
    snapshot.delete(lab, "two")
    assert layers(lab) == ["1", "2", "3"], "the lab stands on it"

    snapshot.create(lab, "three")
    snapshot.restore(lab, "three")
    snapshot.create(lab, "four")
    snapshot.restore(lab, "three")
    snapshot.delete(lab, "four")
    assert set(layers(lab)) == {*lab.stack}


def test_the_size_of_a_snapshot_is_what_was_written_since_its_parent(lab: Lab, driver: Fake) -> None:
    for name, size in (("one", 300_000), ("two", 700_000)):
        (lab.top / "first" / "root" / name).write_bytes(b"x" * size)
        snapshot.create(lab, name)
        (lab.top / "first" / "root" / name).unlink()  # the fake copies what a driver would stack
    one, two = snapshot.snapshots(lab)
    assert 300_000 < snapshot.used(lab, one) < 400_000
    assert 700_000 < snapshot.used(lab, two) < 800_000


# --- killed in the middle --------------------------------------------------------------------------

MOMENTS: dict[str, tuple[str, str]] = {
    "while machines stop": ("rest", ""),
    "while disks are copied": ("branch", ""),
    "before the record is written": ("save", ""),
    "before machines start": ("create_network", "new"),
    "while machines start": ("start", "new"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_snapshot_that_is_killed_is_taken_or_not(
    moment: str, lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, left = MOMENTS[moment]
    tell(lab, driver, "before")
    with monkeypatch.context() as patch:
        kill_at(call, driver, patch)
        with pytest.raises(KilledError):
            snapshot.create(lab, "ready")

    found = go_on(lab, driver)
    assert told(found, driver) == "before"
    assert [s.name for s in snapshot.snapshots(found)] == (["ready"] if left else [])
    assert set(layers(found)) == {*found.stack}
    tell(found, driver, "after")
    snapshot.create(found, "second")
    if left:
        snapshot.restore(found, "ready")
        assert told(found, driver) == "before"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_restore_that_is_killed_has_happened_or_not(
    moment: str, lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, left = MOMENTS[moment]
    tell(lab, driver, "before")
    snapshot.create(lab, "ready")
    tell(lab, driver, "after")
    with monkeypatch.context() as patch:
        kill_at(call, driver, patch)
        with pytest.raises(KilledError):
            snapshot.restore(lab, "ready")

    found = go_on(lab, driver)
    assert told(found, driver) == ("before" if left else "after")
    assert set(layers(found)) == {*found.stack}
    snapshot.restore(found, "ready")
    assert told(found, driver) == "before"


def kill_at(call: str, driver: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    if call == "save":
        monkeypatch.setattr(Lab, "save", killed)
    else:
        monkeypatch.setattr(driver, call, killed)


def go_on(lab: Lab, driver: Fake) -> Lab:
    """What `labctl up` does next."""
    found = again(lab)
    snapshot.sweep(found)
    Engine(found, no_guest).up()
    return found


@pytest.mark.parametrize("call", ["rest", "branch"])
def test_a_snapshot_that_fails_leaves_the_lab_running_as_it_was(
    call: str, lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(lab, driver, "kept")

    def full(*_: object) -> None:
        raise LabError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(driver, call, full)
        with pytest.raises(LabError, match="no space"):
            snapshot.create(lab, "ready")
    found = again(lab)
    assert snapshot.snapshots(found) == snapshot.snapshots(lab) == []
    assert (found.stack, layers(found)) == (("1",), ["1"])
    assert told(found, driver) == "kept"
    assert all(driver.machine(found, n).running for n in found.spec.nodes)


def test_a_restore_without_room_does_not_touch_the_lab(lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot.create(lab, "ready")
    tell(lab, driver, "kept")

    def full(source: Path, target: Path) -> None:
        raise LabError("no space left on device")

    monkeypatch.setattr(sparse, "copy", full)
    driver.rested.clear()
    with pytest.raises(LabError, match="no space"):
        snapshot.restore(lab, "ready")
    assert driver.rested == []
    assert told(again(lab), driver) == "kept"
    assert set(layers(lab)) == {*lab.stack}


def test_a_lab_that_is_not_well_after_its_snapshot_says_so_and_has_it(lab: Lab, driver: Fake) -> None:
    driver.failures["3 units run"] = "unit mariadb.service is failed: boom"
    with pytest.raises(BrokenLabError, match=re.escape("first: mariadb.service is failed: boom")):
        snapshot.create(lab, "ready")
    assert [s.name for s in snapshot.snapshots(again(lab))] == ["ready"]


def test_the_record_of_a_snapshot_is_plain_data(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "ready")
    entry = json.loads((lab.directory / "lab.json").read_text())["snapshots"]["ready"]
    assert sorted(entry) == ["created", "facts", "parent", "spec", "stack", "stage"]
    assert set(entry["facts"]) == {"image"}


def memory(lab: Lab, number: str) -> Path:
    """The saved memory of a machine, as a driver of virtual machines puts it into a layer."""
    path = lab.layer(number) / "first" / MEMORY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("memory")
    return path


def test_memory_goes_with_the_snapshot_it_was_saved_for(lab: Lab, driver: Fake) -> None:
    tell(lab, driver, "kept")
    snapshot.create(lab, "ready")
    saved = memory(lab, "1")
    snapshot.sweep(lab)
    assert saved.exists()
    snapshot.delete(lab, "ready")
    assert (saved.exists(), lab.layer("1").is_dir()) == (False, True)
    assert told(lab, driver) == "kept"


def test_memory_that_a_machine_goes_on_from_next_is_kept(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "ready")
    saved, waits = memory(lab, "1"), lab.top / "first" / GOES_ON
    waits.write_text("1")
    snapshot.delete(lab, "ready")
    assert saved.exists()
    waits.unlink()
    assert snapshot.waste(lab) == [saved]
