"""Golden images and flavors on a cloud in memory: uploaded, found again, removed."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest
from memory_cloud import MemoryCloud
from memory_lab import GIB, MIB, killed, stand_on, up

from labctl import __main__
from labctl.drivers.openstack import flavors, leftovers, marks, uploads
from labctl.errors import LabError
from labctl.host import lock, process
from labctl.lab import down, gc
from labctl.records import clouds
from labctl.records.lab import Lab, locked


@pytest.fixture
def lab(lab_on_cloud: Lab) -> Lab:
    return lab_on_cloud


def test_an_image_is_uploaded_once_and_one_that_was_cut_off_again(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = lab.layers
    cloud.refused["PUT /v2/images"] = (500, "connection reset")
    with pytest.raises(LabError, match="connection reset"):
        uploads.ensure(cloud, image)
    assert cloud.made() == {}
    cloud.refused.clear()
    uploads_killed = len(cloud.requests) + 3
    cloud.killed_at = uploads_killed
    with pytest.raises(KeyboardInterrupt):
        uploads.ensure(cloud, image)
    cloud.killed_at = 0
    first = uploads.ensure(cloud, image)
    assert uploads.ensure(cloud, image) == first
    assert cloud.made() == {"/v2/images": 1}
    # the image of a server's disk has all properties of the one that it was made of
    cloud.things["/v2/images"][first][marks.KEY] = marks.of(lab, "first")
    assert uploads.ensure(cloud, image) != first


@pytest.fixture
def raw(lab: Lab, cloud: MemoryCloud) -> Path:
    """A golden disk of 5 MiB, for a cloud that prefers raw ones."""
    if process.missing("qemu-img"):
        pytest.skip("no qemu-img")
    (image,) = lab.layers
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", image / "tree/disk.qcow2", "5M"])
    cloud.image_format = "raw"
    return image


def test_a_cloud_that_prefers_raw_images_gets_them_whole(raw: Path, cloud: MemoryCloud) -> None:
    made = cloud.things["/v2/images"][uploads.ensure(cloud, raw)]
    assert (made["disk_format"], made["size"], made["min_disk"]) == ("raw", 5 * MIB, 1)
    assert made["head"] == bytes(4), "no header: it is the disk itself"
    assert not list(uploads.directory().iterdir()), "the raw disk is written for the upload only"
    assert uploads.ensure(cloud, raw) == made["id"]
    cloud.image_format = "qcow2"
    other = cloud.things["/v2/images"][uploads.ensure(cloud, raw)]
    assert (other["disk_format"], other["head"]) == ("qcow2", b"QFI\xfb"), "one of the other format is not taken for it"


def test_a_raw_upload_that_was_cut_off_is_found_and_made_anew(raw: Path, cloud: MemoryCloud) -> None:
    number = 0
    for number in itertools.count(1):
        cloud.things["/v2/images"].clear()
        ended = not killed(cloud, number, lambda: uploads.ensure(cloud, raw))
        made = cloud.things["/v2/images"][uploads.ensure(cloud, raw)]
        assert (made["status"], made["size"]) == ("active", 5 * MIB)
        assert cloud.made() == {"/v2/images": 1}
        assert not list(uploads.directory().iterdir())
        if ended:
            break
    assert number > 4


def test_an_image_that_a_cloud_calls_active_but_has_not_whole_is_not_used(raw: Path, cloud: MemoryCloud) -> None:
    cloud.cut = 3 * MIB
    cloud.refused["DELETE /v2/images"] = (503, "Service Unavailable")
    with pytest.raises(LabError, match=f"has {3 * MIB} bytes of .*; {5 * MIB} were sent"):
        uploads.ensure(cloud, raw)
    (half,) = cloud.things["/v2/images"]
    cloud.refused.clear()
    cloud.cut = -1
    assert uploads.ensure(cloud, raw) != half
    assert half not in cloud.things["/v2/images"]


def test_a_raw_disk_that_a_killed_labctl_left_is_a_leftover_unless_it_is_read(raw: Path, cloud: MemoryCloud) -> None:
    left = uploads.directory() / raw.name
    left.mkdir(parents=True)
    (left / "disk.raw").write_bytes(bytes(4096))
    with lock.exclusive(uploads.guard(raw.name), "uploads it"):
        assert not [finding for finding in gc.find() if finding.kind == "upload"]
    (found,) = (finding for finding in gc.find() if finding.kind == "upload")
    assert found.parts == (f"directory {left}",)
    assert gc.remove([found]) == []
    assert not left.exists()


def golden_on_clouds() -> list[gc.Finding]:
    return [finding for finding in gc.find(images=True) if finding.kind in ("cloud image", "cloud")]


def test_golden_images_on_a_cloud_go_with_gc_images_when_no_lab_or_server_uses_them(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    up(lab)
    assert golden_on_clouds() == [], "the lab's and the gateway's are in use"
    theirs = cloud.post("image", "/v2/images", {uploads.GOLDEN: "cloud-of-the-nodes", marks.KEY: "0123456789ab"})["id"]
    other = cloud.post("image", "/v2/images", {"name": "somebody's"})["id"]
    assert down.down("mine")
    assert clouds.known() == {}
    cloud.requests.clear()
    assert not [finding for finding in gc.find() if finding.kind == "cloud image"]
    assert cloud.requests == [], "a cloud is asked for images with --images only"

    found = golden_on_clouds()
    assert {finding.name for finding in found} == {"cloud-of-the-nodes", "cloud-of-the-gateway"}
    assert all("of the cloud memory" in part for finding in found for part in finding.parts)
    monkeypatch.setattr(sys, "argv", ["labctl", "gc", "--images", "--dry-run", "-o", "json"])
    with pytest.raises(SystemExit) as ended:
        __main__.run()
    assert not ended.value.code
    rows = json.loads(capsys.readouterr().out)["found"]
    assert [(row["name"], row["bytes"]) for row in rows if row["kind"] == "cloud image"] == [
        (finding.name, finding.size) for finding in found
    ]
    assert all(finding.size for finding in found)
    assert cloud.made()["/v2/images"] == 4, "found is not removed"
    assert gc.remove(found) == []
    assert cloud.things["/v2/images"].keys() == {theirs, other}
    assert clouds.places() == []


def test_golden_images_that_are_used_again_since_they_were_found_stay(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    servers = dict(cloud.things["/servers"])
    cloud.things["/servers"].clear()
    (found,) = golden_on_clouds()
    assert found.name == "cloud-of-the-gateway", "the lab's record names the other"
    cloud.things["/servers"] |= servers
    assert gc.remove([found]) == []
    assert cloud.made()["/v2/images"] == 2
    cloud.things["/servers"].clear()
    with locked(lab.name, "a test"):
        assert golden_on_clouds() == [], "a command works on a lab there"
        assert gc.remove([found]) == []
    assert cloud.made()["/v2/images"] == 2


def test_a_cloud_that_does_not_answer_or_keeps_an_image_is_said_by_gc_images(lab: Lab, cloud: MemoryCloud) -> None:
    up(lab)
    assert down.down("mine")
    cloud.refused["DELETE /v2/images"] = (409, "image in use")
    left = gc.remove(golden_on_clouds())
    assert "image cloud-of-the-gateway of the cloud memory: image in use" in left
    cloud.refused = {"GET /v2/images": (503, "Service Unavailable")}
    (finding,) = golden_on_clouds()
    (said,) = finding.remove()
    assert said.startswith("golden images on the cloud memory: the cloud memory refused")
    assert clouds.places() == ["memory"]


def test_images_beyond_the_first_page_are_seen(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.page = 1
    up(lab)
    up(lab)
    assert cloud.made()["/v2/images"] == 2
    stand_on(lab)
    assert leftovers.sweep("mine") == []
    assert len(golden_on_clouds()) == 1, "the lab's record names the other"


def test_a_flavor_is_the_exact_one_else_made_else_the_smallest_that_is_enough(lab: Lab, cloud: MemoryCloud) -> None:
    for name, size in (("big", (4, 8192, 40)), ("bigger", (8, 8192, 40)), ("exact", (2, 2048, 10))):
        about = dict(zip(("vcpus", "ram", "disk"), size, strict=True))
        cloud.post("compute", "/flavors", {"flavor": {"name": name, **about}})
    names = {each["name"]: key for key, each in cloud.things["/flavors"].items()}
    assert flavors.flavor(cloud, lab, 2, 2048 * MIB, 10 * GIB) == names["exact"]
    made = flavors.flavor(cloud, lab, 2, 2000 * MIB, 10 * GIB)
    assert marks.mine(cloud.things["/flavors"][made], "mine")
    cloud.refused["POST /flavors"] = (403, "not for you")
    assert flavors.flavor(cloud, lab, 3, 4000 * MIB, 10 * GIB) == names["big"]
    with pytest.raises(LabError, match=r"no flavor with 16 virtual CPUs, .*, and this project may not make one"):
        flavors.flavor(cloud, lab, 16, 4000 * MIB, 10 * GIB)


def test_two_nodes_of_one_size_make_their_flavor_once(
    lab: Lab, cloud: MemoryCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start side by side: the second is refused a flavor that was not there a moment before."""
    other = flavors.flavor(cloud, lab, 3, 3000 * MIB, 3 * GIB)
    seen = iter([[], [], flavors._known(cloud)])
    monkeypatch.setattr(flavors, "_known", lambda _: next(seen))
    cloud.refused["POST /flavors"] = (409, "Flavor with name labctl.mine already exists.")
    assert flavors.flavor(cloud, lab, 3, 3000 * MIB, 3 * GIB) == other
