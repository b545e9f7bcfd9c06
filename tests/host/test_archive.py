"""Directories as one file: what comes out is what went in, and a file that is not whole is refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from labctl.errors import DeadlineError, LabError
from labctl.host import archive, process

HEADER = {"name": "ready", "of": "a lab"}


@pytest.fixture
def content(tmp_path: Path) -> Path:
    directory = tmp_path / "content"
    (directory / "layers/1/first").mkdir(parents=True)
    (directory / "layers/1/first/told").write_text("precious\n")
    (directory / "layers/1/first/link").symlink_to("told")
    (directory / "layers/1/first/twin").hardlink_to(directory / "layers/1/first/told")
    (directory / "layers/2").mkdir()
    (directory / "layers/2/unwanted").touch()
    with (directory / "layers/1/disk").open("wb") as sink:
        sink.write(b"begin")
        sink.truncate(2**30)
    return directory


def ignore(_: int = 0) -> None:
    pass


@pytest.fixture
def path(tmp_path: Path, content: Path) -> Path:
    found = tmp_path / "lab.tar.zst"
    archive.write(found, HEADER, [(content, "layers/1"), (content / "layers", "2")], ignore, 60)
    return found


def unpacked(path: Path, directory: Path, *without: str) -> Path:
    directory.mkdir()
    archive.unpack(path, directory, lambda parts, member: True, 2**30, without, ignore, 60)
    return directory


def test_what_comes_out_is_what_went_in(path: Path, content: Path, tmp_path: Path) -> None:
    assert archive.read_header(path) == HEADER
    archive.check(path, ignore)
    found = unpacked(path, tmp_path / "out")
    first = found / "layers/1/first"
    assert (first / "told").read_text() == "precious\n"
    assert (first / "link").readlink() == Path("told")
    assert (first / "twin").stat().st_ino == (first / "told").stat().st_ino
    assert (first / "told").stat().st_mtime_ns == (content / "layers/1/first/told").stat().st_mtime_ns
    assert sorted(p.name for p in found.iterdir()) == ["2", "layers"]


def test_holes_take_no_room_in_it_nor_out_of_it(path: Path, tmp_path: Path) -> None:
    assert path.stat().st_size < 2**20
    disk = unpacked(path, tmp_path / "out") / "layers/1/disk"
    assert (disk.stat().st_size, disk.stat().st_blocks * 512 < 2**20) == (2**30, True)
    with disk.open("rb") as source:
        assert source.read(6) == b"begin\0"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_an_overlay_marks_on_its_files_comes_along(tmp_path: Path) -> None:
    directory = tmp_path / "content"
    (directory / "layer/opaque").mkdir(parents=True)
    os.setxattr(directory / "layer/opaque", "trusted.overlay.opaque", b"y")
    os.mknod(directory / "layer/gone", 0o020000, os.makedev(0, 0))
    os.chown(directory / "layer/opaque", 12345, 54321)
    path = tmp_path / "lab.tar.zst"
    archive.write(path, HEADER, [(directory, "layer")], ignore, 60)
    found = unpacked(path, tmp_path / "out") / "layer"
    assert os.getxattr(found / "opaque", "trusted.overlay.opaque") == b"y"
    assert ((found / "opaque").stat().st_uid, (found / "opaque").stat().st_gid) == (12345, 54321)
    assert (found / "gone").stat().st_rdev == os.makedev(0, 0)


def test_what_is_not_wanted_stays_packed(path: Path, tmp_path: Path) -> None:
    found = unpacked(path, tmp_path / "out", "2")
    assert [p.name for p in found.iterdir()] == ["layers"]


def test_only_its_owner_can_read_it_and_nothing_else_is_left(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_others_see_an_ordinary_archive(path: Path) -> None:
    listed = process.output(["tar", "--use-compress-program=zstd", "-tf", path])
    assert "./layers/1/first/told" in listed.splitlines()


@pytest.mark.parametrize("cut", [1, 90, 2000])
def test_one_that_is_cut_short_is_refused(cut: int, path: Path) -> None:
    os.truncate(path, max(path.stat().st_size - cut, 40))
    with pytest.raises(archive.NoArchiveError, match="is truncated"):
        archive.check(path, ignore)


@pytest.mark.parametrize("place", [12, 300, -80])
def test_one_of_which_a_byte_was_changed_is_refused(place: int, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(archive.NoArchiveError, match="is damaged"):
        archive.check(path, ignore)


@pytest.mark.parametrize("data", [b"", b"labctl", os.urandom(5000), b"\x5c\x2a\x4d\x18\xff\xff\xff\xff{}"])
def test_another_file_is_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(archive.NoArchiveError, match="was not written by labctl"):
        archive.read_header(path)


@pytest.mark.parametrize("kind", ["directory", "FIFO"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "export"
    place.mkdir() if kind == "directory" else os.mkfifo(place)
    for read in (archive.read_header, lambda path: archive.check(path, ignore)):
        with pytest.raises(LabError, match=f"cannot be read: it is a {kind}"):
            read(place)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="/none cannot be read: No such file"):
        archive.read_header(tmp_path / "none")


def test_what_cannot_be_packed_leaves_neither_file_nor_half(tmp_path: Path, content: Path) -> None:
    with pytest.raises(LabError, match=r"tar failed with status .*layers/9: Cannot stat"):
        archive.write(tmp_path / "lab.tar.zst", HEADER, [(content, "layers/9")], ignore, 60)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["content"]


def test_an_older_file_stays_when_a_new_one_fails(path: Path, content: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(LabError):
        archive.write(path, HEADER, [(content, "layers/9")], ignore, 60)
    assert path.read_bytes() == before


def test_the_deadline_ends_the_packer_and_it_tells_while_it_works(
    tmp_path: Path, content: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_TELL", 0.0)
    monkeypatch.setattr(archive, "_COMPRESSOR", "sh -c 'sleep 30'")
    told: list[int] = []
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"tar timed out after 0\.5 s"):
        archive.write(tmp_path / "lab.tar.zst", HEADER, [(content, "layers/1")], told.append, 0.5)
    assert time.monotonic() - began < 20
    assert told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["content"]
