"""State files that are damaged: each is named, and the lab can still be listed and removed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Labctl
from support import IDENTITY, write

from labctl import drivers
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.host import files, paths, state
from labctl.images import store
from labctl.records.lab import Lab

Run = Callable[..., tuple[int, str]]


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def other(path: Path) -> None:
    """What another version might have written: names that this one does not know."""
    found = json.loads(path.read_text())
    path.write_text(
        json.dumps([{"new": 1}] if isinstance(found, list) else {key: [value] for key, value in found.items()})
    )


def huge(path: Path) -> None:
    os.truncate(path, 2**40)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "empty": text(""),
    "cut": cut,
    "null": text("null"),
    "number": text("7"),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "deep": text("[" * 100_000),
    "other": other,
    "huge": huge,
    "directory": directory,
    "fifo": fifo,
}
FILES = ("lab.json", "journal.json", "secrets.json", "faults.json")


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``labctl WORDS`` in this process: status, and everything it printed."""
    monkeypatch.setitem(drivers.LOADED, "nspawn", Fake())

    run = Labctl(monkeypatch, capsys, bugs=False)

    def said(*words: str | Path) -> tuple[int, str]:
        status, out, err = run(*words)
        return status, out + err

    return said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lab is kept once one test has made it."""
    return tmp_path_factory.mktemp("made") / "identity"


@pytest.fixture
def lab(labctl: Run, made: Path, tmp_path: Path) -> Path:
    """The directory of a lab called identity."""
    place = paths.labs() / "identity"
    if made.exists():
        shutil.copytree(made, place, symlinks=True)
    else:
        labctl("up", write(tmp_path, IDENTITY), "--until", "infrastructure")
        (place / "faults.json").write_text("[]")
        shutil.copytree(place, made, symlinks=True)
    return place


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_its_lab_goes(name: str, damage: str, labctl: Run, lab: Path) -> None:
    (path,) = lab.rglob(name)
    DAMAGES[damage](path)
    seen = [labctl(*words) for words in (("list",), ("status", "identity"), ("info", "identity"), ("logs", "identity"))]
    assert seen[0][0] == 0
    assert any(str(path) in said for status, said in seen if status == 1), seen
    assert all(status in (0, 1) for status, _ in seen)
    assert labctl("gc", "--dry-run")[0] in (0, 1)
    assert labctl("down", "identity")[0] == 0
    assert not lab.exists()


def test_damaged_snapshots_are_named_and_their_lab_goes(labctl: Run, lab: Path) -> None:
    path = lab / "lab.json"
    record = json.loads(path.read_text())
    for damaged in (7, [], {"first": 7}, {"first": {"created": "never"}}):
        path.write_text(json.dumps({**record, "snapshots": damaged}))
        status, said = labctl("snapshot", "list", "identity")
        assert (status, damaged) == (0, []) or (status == 1 and str(path) in said)
    assert labctl("down", "identity")[0] == 0


@pytest.mark.parametrize("content", ["", "{", "7", "{}", '{"tree": 7}'])
def test_a_damaged_manifest_of_an_image_is_named(content: str) -> None:
    image = paths.images() / "kind-0123456789abcdef"
    files.make_directories(image)
    (image / "manifest.json").write_text(content)
    with pytest.raises(LabError, match=r"manifest\.json cannot be read") as raised:
        store.identity(image)
    assert raised.value.hint.startswith(f"rm -rf {image}")


def test_nothing_is_read_beyond_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "LARGEST", 10)
    (tmp_path / "a").write_text('["123456789"]')
    with pytest.raises(LabError, match="cannot be read"):
        state.read(tmp_path / "a", list[str], "")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(created={"a": 1}),
        lambda record: record.pop("image"),
        lambda record: record.update(image=[1]),
        lambda record: record.update(stack=[]),
        lambda record: record.update(stack=["../1"]),
        lambda record: record.update(snapshots=[]),
        lambda record: record["snapshots"].update(one={"facts": {}}),
        lambda record: record.pop("id"),
    ],
)
def test_every_part_of_a_record_is_checked(change: Callable[[dict[str, Any]], None], lab: Path, labctl: Run) -> None:
    """Found by the fuzzer: parts that no type described ended in a bug of list and gc."""
    record = json.loads((lab / "lab.json").read_text())
    change(record)
    (lab / "lab.json").write_text(json.dumps(record))
    status, said = labctl("list")
    assert (status, "identity" in said) == (0, True)
    paths.images().mkdir()
    assert labctl("gc", "--images", "--dry-run")[0] == 1
    status, said = labctl("snapshot", "list", "identity")
    assert status == 1
    assert f"{lab / 'lab.json'} cannot be read" in said
    assert labctl("down", "identity")[0] == 0


@pytest.mark.parametrize("name", ["data", "data.pub", "id_ed25519", "id_ed25519.pub"])
def test_a_damaged_key_is_named(name: str, lab: Path) -> None:
    keys = lab / "keys"
    (keys / name).write_bytes(b"ssh-ed25519 \xc3\x28")
    found = Lab.load("identity")
    read = {"data": lambda: found.host_private_key("data"), "data.pub": lambda: found.host_key("data")}
    read |= {"id_ed25519": found.private_key, "id_ed25519.pub": found.public_key}
    with pytest.raises(LabError, match=f"keys/{name} cannot be read") as raised:
        read[name]()
    assert raised.value.hint == "labctl down identity"
