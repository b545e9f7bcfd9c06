"""labctl's files: whole or not there, and never through a link."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.host import files, paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("LABCTL_HOME", str(path))
    monkeypatch.setenv("LABCTL_CACHE", str(path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    return paths.home()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_link_in_the_way_is_replaced_and_its_target_kept(home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (home / "lab.json").symlink_to(victim)
    files.write_atomic(home / "lab.json", "ours", 0o600)
    assert victim.read_text() == "theirs"
    assert not (home / "lab.json").is_symlink()
    assert (home / "lab.json").read_text() == "ours"


def test_links_with_the_names_that_writers_used_are_not_followed(home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (home / ".lab.json.new").symlink_to(victim)
    files.write_atomic(home / "lab.json", "ours")
    assert not victim.exists()
    assert names(home) == [".lab.json.new", "lab.json"]


def test_a_directory_on_the_way_that_is_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (home / "root").mkdir()
    (home / "root" / "etc").symlink_to(tmp_path / "etc")
    with pytest.raises(OSError):
        files.write_atomic(home / "root/etc/hostname", "x", within=home / "root")
    with pytest.raises(OSError):
        files.appended(home / "root/etc/log", within=home / "root")
    assert names(tmp_path / "etc") == []


def test_the_users_mask_counts_for_files_of_the_host_and_not_in_a_machines_tree(home: Path) -> None:
    before = os.umask(0)
    try:
        files.write_atomic(home / "secret", "x", 0o600)
        os.umask(0o077)
        files.write_atomic(home / "closed", "x", 0o644)
        files.write_atomic(home / "open", "x", 0o644, within=home)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((home / name).stat().st_mode) for name in names(home)}
    assert modes == {"secret": 0o600, "closed": 0o600, "open": 0o644}


def test_a_failed_writer_leaves_the_old_version_alone(home: Path) -> None:
    files.write_atomic(home / "f", "old")
    with pytest.raises(TypeError), files.replacing(home / "f") as sink:
        sink.writelines([b"half", "not bytes"])  # type: ignore[list-item]
    assert (home / "f").read_text() == "old"
    assert names(home) == ["f"]


def test_of_many_writers_one_wins_whole(home: Path) -> None:
    texts = [str(n) * 300_000 for n in range(6)]
    writers = [threading.Thread(target=files.write_atomic, args=(home / "f", text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert (home / "f").read_text() in texts
    assert names(home) == ["f"]


@pytest.mark.parametrize("kind", ["directory", "FIFO", "device"])
def test_what_is_no_file_is_refused_at_once(home: Path, kind: str) -> None:
    path = {"directory": home, "FIFO": home / "fifo", "device": Path("/dev/zero")}[kind]
    if kind == "FIFO":
        os.mkfifo(path)
    with pytest.raises(OSError, match=f"it is a {kind}"):
        files.opened(path)


def test_a_log_that_is_a_link_or_a_fifo_is_not_written(home: Path, tmp_path: Path) -> None:
    (home / "log").symlink_to(tmp_path / "victim")
    os.mkfifo(home / "fifo")
    for name in ("log", "fifo"):
        with pytest.raises(OSError):
            files.appended(home / name)
    assert not (tmp_path / "victim").exists()


def test_removal_takes_a_link_and_not_what_it_names(home: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").touch()
    (home / "labs/x").mkdir(parents=True)
    (home / "labs/x/link").symlink_to(tmp_path / "victim")
    (home / "labs/y").symlink_to(tmp_path / "victim")
    assert files.remove(home / "labs/x") == []
    assert files.remove(home / "labs/y") == []
    assert files.remove(home / "labs/absent") == []
    assert names(home / "labs") == []
    assert names(tmp_path / "victim") == ["file"]


def test_removal_below_a_linked_directory_touches_nothing(home: Path, tmp_path: Path) -> None:
    (tmp_path / "victim/nodes").mkdir(parents=True)
    (home / "labs").symlink_to(tmp_path / "victim")
    assert len(files.remove(home / "labs/nodes")) == 1
    assert (tmp_path / "victim/nodes").is_dir()


@pytest.mark.parametrize(
    "path", ["{0}/elsewhere", "{0}/home", "{0}/home/../elsewhere", "{0}/home/labs/../../elsewhere"]
)
def test_nothing_outside_of_the_home_is_removed(home: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(LabError, match="does not remove"):
        files.remove(Path(path.format(tmp_path)))
    assert (tmp_path / "elsewhere").is_dir()


def test_a_tree_of_others_is_read_and_written_without_its_links(home: Path, tmp_path: Path) -> None:
    root = home / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "victim").write_text("theirs")
    for name in ("hostname", "unit"):
        (root / "etc" / name).symlink_to(tmp_path / "victim")
    os.mkfifo(root / "etc/fifo")
    assert [files.content(root / "etc" / name, root) for name in ("hostname", "fifo", "absent")] == [None] * 3
    files.write_atomic(root / "etc/hostname", "ours", within=root)
    files.link(root / "etc/unit", "/dev/null", root)
    assert files.content(root / "etc/hostname", root) == "ours"
    assert str((root / "etc/unit").readlink()) == "/dev/null"
    files.make_directories(root / "etc/.ssh", 0o700, root)
    files.make_directories(root / "etc/.ssh", 0o700, root)
    (root / "home").symlink_to(tmp_path)
    with pytest.raises(OSError):
        files.make_directories(root / "home", 0o700, root)
    assert (tmp_path / "victim").read_text() == "theirs"


def test_one_file_is_discarded_and_neither_a_directory_nor_what_a_link_names(tmp_path: Path) -> None:
    kept, link, place = tmp_path / "kept", tmp_path / "link", tmp_path / "x.sig"
    kept.write_text("kept")
    link.symlink_to(kept)
    files.discard(link)
    files.discard(link)
    assert not link.is_symlink()
    assert kept.read_text() == "kept"
    (place / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        files.discard(place)
    assert (place / "below").is_dir()
