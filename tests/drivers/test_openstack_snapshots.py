"""Snapshots of labs on a cloud in memory: images of root disks, snapshots of volumes."""

from __future__ import annotations

import itertools

import pytest
from memory_cloud import MemoryCloud
from memory_lab import killed, refuse, stand_on, up

from labctl import drivers
from labctl.drivers.openstack import leftovers, marks
from labctl.drivers.openstack.machine import OpenStack
from labctl.errors import LabError
from labctl.host import files
from labctl.lab import snapshot
from labctl.records.lab import Lab


@pytest.fixture
def lab(lab_on_cloud: Lab) -> Lab:
    return lab_on_cloud


def test_a_restored_lab_is_made_of_its_own_images_and_volume_snapshots(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    stand_on(lab)
    kept = {thing.name: thing.id for thing in leftovers.frozen(cloud, "mine")}
    assert set(kept) == {"mine.first.layer-1", "mine.second.layer-1", "mine.second.data.layer-1"}
    before = {s["name"]: s for s in cloud.things["/servers"].values()}

    stand_on(lab, "1")
    after = {s["name"]: s for s in cloud.things["/servers"].values()}
    assert after["mine.gateway"] == before["mine.gateway"]
    assert after["mine.first"]["imageRef"] == kept["mine.first.layer-1"]
    old, volume = cloud.things["/volumes"].values()
    assert volume["snapshot_id"] == kept["mine.second.data.layer-1"]
    assert marks.RETIRED in old["metadata"], "a cloud does not delete a volume that has snapshots"
    assert after["mine.second"]["user_data"] != before["mine.second"]["user_data"], "udev's names of its volumes"

    files.remove(lab.layer("1"))
    lab.meta["stack"] = [lab.stack[0]]
    stand_on(lab)
    assert not any("layer-1" in thing.name for thing in leftovers.frozen(cloud, "mine")), "of a layer that is gone"
    assert old["id"] not in cloud.things["/volumes"]
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


@pytest.fixture
def snapping(lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab that is up, whose snapshots are taken and restored as commands do it."""
    monkeypatch.setitem(drivers.LOADED, "openstack:memory", OpenStack("memory"))
    monkeypatch.setattr(OpenStack, "connect", refuse)  # machines are down when their console says so
    monkeypatch.setattr(snapshot, "gate", lambda lab: None)
    up(lab)
    return lab


def on_cloud(cloud: MemoryCloud) -> dict[str, int]:
    """How much of a lab's servers, disks and snapshots there is, without golden images."""
    made = cloud.made()
    images = sum(marks.LAYER in image for image in cloud.things["/v2/images"].values())
    return {"images": images, **{key: made.get(key, 0) for key in ("/servers", "/volumes", "/snapshots")}}


WHOLE = {"images": 0, "/servers": 3, "/volumes": 1, "/snapshots": 0}
KEPT = {**WHOLE, "images": 2, "/snapshots": 1}
BACK = {**KEPT, "/volumes": 2}


def stays(cloud: MemoryCloud) -> None:
    """No server is made of what is gone."""
    for server in cloud.things["/servers"].values():
        assert server["imageRef"] in cloud.things["/v2/images"]
    for volume in cloud.things["/volumes"].values():
        assert volume.get("snapshot_id") is None or volume["snapshot_id"] in cloud.things["/snapshots"]


def test_a_snapshot_of_a_node_with_disks_is_made_restored_and_deleted(snapping: Lab, cloud: MemoryCloud) -> None:
    assert on_cloud(cloud) == WHOLE
    snapshot.create(snapping, "ready")
    assert on_cloud(cloud) == KEPT
    assert all(server["status"] == "ACTIVE" for server in cloud.things["/servers"].values())
    (kept,) = cloud.things["/snapshots"].values()

    for _ in range(2):
        snapshot.restore(snapping, "ready")
        assert on_cloud(cloud) == BACK, "the volume that has the snapshot is kept for it, once"
        (own,) = (v for v in cloud.things["/volumes"].values() if v.get("snapshot_id"))
        assert own["snapshot_id"] == kept["id"]
        assert own["metadata"] == {marks.DISK: "data"}
        second = next(s for s in cloud.things["/servers"].values() if s["name"] == "mine.second")
        assert own["id"] in [each["uuid"] for each in second["block_device_mapping_v2"]]

    snapshot.create(snapping, "later")
    snapshot.delete(snapping, "later")
    assert on_cloud(cloud) == {**BACK, "images": 4, "/snapshots": 2}, "the lab stands on its layer"
    snapshot.restore(snapping, "ready")
    assert on_cloud(cloud)["images"] == 4, "its layer goes after the lab has left it"
    snapshot.delete(snapping, "ready")
    assert on_cloud(cloud)["images"] == 2, "the lab stands on that of the first"
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


@pytest.mark.parametrize("what", ["create", "restore", "delete"])
def test_a_snapshot_command_may_be_killed_at_any_request_and_leaves_nothing_behind(
    what: str, snapping: Lab, cloud: MemoryCloud
) -> None:
    lab = snapping
    if what != "create":
        snapshot.create(lab, "ready")
    if what == "delete":
        snapshot.create(lab, "later")
        snapshot.restore(lab, "ready")
    start, end = {
        "create": (WHOLE, KEPT), "restore": (BACK, BACK), "delete": (BACK, BACK),
    }[what]  # fmt: skip
    work = {
        "create": lambda: snapshot.create(Lab.load("mine"), "ready"),
        "restore": lambda: snapshot.restore(Lab.load("mine"), "ready"),
        "delete": lambda: snapshot.delete(Lab.load("mine"), "later"),
    }[what]
    number = 0
    for number in itertools.count(1, 2):
        ended = not killed(cloud, number, work)
        lab = Lab.load("mine")
        snapshot.sweep(lab)
        known = {each.name for each in snapshot.snapshots(lab)}
        if what == "create" and "ready" not in known:
            snapshot.wake(lab)
            snapshot.create(lab, "ready")
        elif what == "restore":
            snapshot.restore(lab, "ready")
        else:
            snapshot.wake(lab)
            lab.driver.tidy(lab)
        assert on_cloud(cloud) == end
        stays(cloud)
        if ended:
            break
        if what == "create":
            restart(lab, cloud)
            assert on_cloud(cloud) == start
        if what == "delete":
            snapshot.create(lab, "later")
            snapshot.restore(lab, "ready")
    assert number > (20 if what != "delete" else 3)
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


def restart(lab: Lab, cloud: MemoryCloud) -> None:
    """The lab as it was before any snapshot, on its golden image."""
    assert leftovers.sweep(lab.name) == []
    for layer in (lab.directory / "layers").iterdir():
        files.remove(layer)
    lab.meta |= {"stack": ["1"], "snapshots": {}}
    lab.layer("1").mkdir()
    lab.save()
    for node in lab.spec.nodes:
        files.remove(lab.node_directory(node))
    up(lab)


def test_layers_of_another_lab_are_refused(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    stand_on(lab)
    lab.meta["id"] = "0badcafe"
    with pytest.raises(LabError, match="servers of a cloud cannot be cloned"):
        OpenStack("memory").branch(lab, ("1",), "9")
