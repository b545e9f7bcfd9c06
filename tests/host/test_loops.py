"""Loop devices of this machine: made once, kept apart by lab, and gone when they should be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.host import loops, paths, process
from labctl.lab.down import down, remains

MIB = 2**20
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root"),
    pytest.mark.skipif(bool(process.missing("losetup")), reason="needs losetup"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path.resolve()
    assert loops.detach_all(tmp_path.resolve()) == []


def test_a_disk_is_made_once_and_sparse(place: Path) -> None:
    file = place / "lab" / "disks" / "data.img"
    device = loops.attach(file, 64 * MIB)
    assert loops.attach(file, 64 * MIB) == device
    assert loops.attached(place) == {device: file}
    assert process.output(["blockdev", "--getsize64", device]) == str(64 * MIB)
    assert file.stat().st_blocks * 512 < MIB


def test_content_survives_detaching(place: Path) -> None:
    file = place / "data.img"
    Path(loops.attach(file, MIB)).write_bytes(b"precious")
    assert loops.detach_all(place) == []
    assert loops.attached(place) == {}
    with Path(loops.attach(file, MIB)).open("rb") as disk:
        assert disk.read(8) == b"precious"


def test_a_file_that_a_killed_labctl_left_empty_gets_its_size(place: Path) -> None:
    (place / "data.img").touch()
    assert process.output(["blockdev", "--getsize64", loops.attach(place / "data.img", MIB)]) == str(MIB)


def test_only_devices_below_the_directory_are_detached(place: Path) -> None:
    mine, other = loops.attach(place / "lab" / "d.img", MIB), loops.attach(place / "lab-2" / "d.img", MIB)
    assert loops.detach_all(place / "lab") == []
    assert loops.attached(place) == {other: place / "lab-2" / "d.img"}
    assert mine != other


def test_the_disk_of_an_earlier_lab_is_not_taken_for_the_new_one(place: Path) -> None:
    file = place / "data.img"
    old = loops.attach(file, MIB)
    file.unlink()
    assert loops.attach(file, MIB) != old
    assert set(loops.attached(place).values()) == {file}
    assert len(loops.attached(place)) == 2


def test_down_removes_devices_of_a_lab_whose_directory_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path))
    name = f"loops-{os.getpid()}"
    file = paths.labs() / name / "nodes" / "first" / "disks" / "data.img"
    device = loops.attach(file, MIB)
    file.unlink()
    for directory in (file.parent, *file.parents[1:4]):
        directory.rmdir()
    assert remains(name) == [f"loop device {device}"]
    assert down(name)
    assert remains(name) == []
    assert not down(name)
