"""A snapshot as one file: the lab that comes out of it, and what is refused before anything is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import SMALL, specify, write

from labctl import drivers
from labctl.commands import snapshot as command
from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError
from labctl.host import archive, paths, process, signature
from labctl.images import store
from labctl.lab import portable, snapshot
from labctl.records.directory import exists
from labctl.records.lab import Lab


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


def an_image(text: str) -> Path:
    """An image of the store, with this content."""

    def build(work: Path) -> dict[str, Any]:
        (work / "tree").mkdir()
        (work / "tree/file").write_text(text)
        return {}

    return store.ensure(store.Recipe("base", {}), build)


@pytest.fixture
def lab(tmp_path: Path, driver: Fake, monkeypatch: pytest.MonkeyPatch) -> Lab:
    path = write(tmp_path, SMALL)
    made = Lab.create(specify(path), path)
    image = an_image("golden")
    monkeypatch.setattr(driver, "image", lambda lab: (image,))
    Engine(made, no_guest).up()
    return made


def ask(lab: Lab, driver: Fake, command: str) -> str:
    with driver.connect(lab, "first", 1) as session:
        return session.run(command, timeout=10).stdout.strip()


@pytest.fixture
def file(tmp_path: Path, lab: Lab, driver: Fake) -> Path:
    ask(lab, driver, "echo precious >told")
    snapshot.create(lab, "ready")
    ask(lab, driver, "echo later >told")
    path = tmp_path / "lab.tar.zst"
    assert portable.export(lab, "ready", path) == path.stat().st_size
    return path


def away(lab: Lab, driver: Fake) -> None:
    """Another host: nothing of the lab, and an empty store."""
    for node in lab.spec.nodes:
        driver.destroy(lab, node)
    shutil.rmtree(paths.home())


def brought(path: Path, *, boot: bool = False) -> Lab:
    return portable.import_(path, portable.read(path), boot=boot)


def test_the_lab_comes_up_elsewhere_as_it_was(file: Path, lab: Lab, driver: Fake) -> None:
    key, secrets, journal = lab.private_key(), lab.secrets(), lab.journal()
    away(lab, driver)

    found = brought(file)

    assert [s.name for s in snapshot.snapshots(Lab.load("small"))] == ["ready"]
    assert not any(driver.machine(found, node).running for node in found.spec.nodes)
    snapshot.restore(found, "ready")
    assert ask(found, driver, "cat told") == "precious"
    assert (found.id, found.spec, found.private_key()) == (lab.id, lab.spec, key)
    assert (found.secrets(), found.journal()) == (secrets, journal)
    (image,) = found.layers
    assert (image / "tree/file").read_text() == "golden"
    assert image.parent == paths.images()
    assert Engine(found, no_guest).up().stages == []


def test_an_image_that_is_here_already_is_used(file: Path, lab: Lab, driver: Fake) -> None:
    for node in lab.spec.nodes:
        driver.destroy(lab, node)
    shutil.rmtree(lab.directory)
    before = sorted(paths.images().iterdir())
    found = brought(file)
    assert found.layers == lab.layers
    assert sorted(paths.images().iterdir()) == before
    assert sorted(p.name for p in found.directory.iterdir()) == ["keys", "lab.json", "layers"]


def test_another_build_of_the_same_recipe_is_not_taken_for_it(file: Path, lab: Lab, driver: Fake) -> None:
    away(lab, driver)
    here = an_image("built here")
    (image,) = brought(file).layers
    assert image.name.startswith(f"{here.name}-")
    assert ((here / "tree/file").read_text(), (image / "tree/file").read_text()) == ("built here", "golden")
    store.verify(image)


def test_no_other_lab_is_built_on_an_image_from_elsewhere(file: Path, lab: Lab, driver: Fake) -> None:
    """Whoever forges an image would have root in all labs of this host."""
    (image,) = lab.layers
    away(lab, driver)
    (brought_image,) = brought(file).layers
    assert an_image("built here") != brought_image
    assert (brought_image / "tree/file").read_text() == "golden"
    for name in (image.name, brought_image.name):
        assert store.find(name, store.identity(brought_image)) == brought_image


def test_a_lab_of_that_name_is_never_touched(file: Path, lab: Lab, driver: Fake) -> None:
    with pytest.raises(LabError, match="a lab named small already exists"):
        brought(file)
    assert ask(lab, driver, "cat told") == "later"


def test_a_damaged_file_leaves_nothing(file: Path, lab: Lab, driver: Fake) -> None:
    away(lab, driver)
    data = bytearray(file.read_bytes())
    data[-500] ^= 1
    file.write_bytes(data)
    with pytest.raises(LabError, match="is damaged"):
        brought(file)
    assert list(paths.labs().iterdir()) == []


def test_what_this_host_cannot_run_leaves_nothing(
    file: Path, lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(lab, driver)

    def refuse(lab: Lab, needs: object) -> None:
        raise LabError("the memory needs QEMU 99")

    monkeypatch.setattr(driver, "adopt", refuse)
    with pytest.raises(LabError, match="QEMU 99"):
        brought(file)
    assert not exists("small")
    assert list(paths.labs().iterdir()) == []


@pytest.mark.parametrize("boot", [False, True])
def test_the_driver_is_told_what_the_memory_needs_unless_it_is_left(
    boot: bool, lab: Lab, driver: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driver, "needs", lambda lab, layer: {"layer": layer})
    snapshot.create(lab, "ready")
    path = tmp_path / "lab.tar.zst"
    portable.export(lab, "ready", path)
    away(lab, driver)
    told: list[object] = []
    monkeypatch.setattr(driver, "adopt", lambda lab, needs: told.append(needs))
    brought(path, boot=boot)
    assert told == [{} if boot else {"layer": "1"}]


def test_one_of_a_newer_labctl_is_named(file: Path, tmp_path: Path) -> None:
    header = archive.read_header(file)
    other = tmp_path / "newer.tar.zst"
    archive.write(
        other, {**header, "format": "labctl snapshot 2", "labctl": "9.9"}, [(tmp_path, "lab.yaml")], lambda _: None, 60
    )
    with pytest.raises(LabError, match=r"exported by labctl 9.9, which this one .* cannot read: format"):
        portable.read(other)


@pytest.mark.parametrize(
    ("where", "value"),
    [("id", "../.."), ("images", [{"name": "../x", "digest": "0"}]), ("entry", {}), ("name", "a/b")],
)
def test_a_header_that_is_none_is_refused(where: str, value: object, file: Path, tmp_path: Path) -> None:
    header = json.loads(json.dumps(archive.read_header(file)))
    other = tmp_path / "other.tar.zst"
    archive.write(other, {**header, where: value}, [(tmp_path, "lab.yaml")], lambda _: None, 60)
    with pytest.raises(LabError, match=f"cannot read: {where}"):
        portable.read(other)


def test_a_layer_outside_the_lab_is_refused(file: Path, tmp_path: Path) -> None:
    header = archive.read_header(file)
    header["entry"]["stack"] = ["../../elsewhere"]
    other = tmp_path / "other.tar.zst"
    archive.write(other, header, [(tmp_path, "lab.yaml")], lambda _: None, 60)
    with pytest.raises(LabError, match=r"cannot read: entry\.stack"):
        portable.read(other)


def test_a_file_in_no_directory_is_refused_before_anything_is_packed(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "ready")
    with pytest.raises(LabError, match="there is no directory /none"):
        portable.export(lab, "ready", Path("/none/lab.tar.zst"))


def test_an_unknown_snapshot_is_named_with_those_there_are(lab: Lab, driver: Fake, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="has no snapshot 'ready'; snapshots: none"):
        portable.export(lab, "ready", tmp_path / "file")


def test_an_export_is_signed_and_its_signature_is_asked_for(lab: Lab, driver: Fake, tmp_path: Path) -> None:
    snapshot.create(lab, "ready")
    path, key = tmp_path / "lab.tar.zst", tmp_path / "key"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    command.export("small", "ready", str(path), key=key)
    (tmp_path / "allowed").write_text(f"me@example.org {(tmp_path / 'key.pub').read_text()}")
    assert signature.signer(path, tmp_path / "allowed").startswith("me@example.org")
    away(lab, driver)
    command.import_(str(path), signers=tmp_path / "allowed")
    assert exists("small")


def test_an_earlier_signature_does_not_stay_beside_a_new_export(lab: Lab, driver: Fake, tmp_path: Path) -> None:
    snapshot.create(lab, "ready")
    path = tmp_path / "lab.tar.zst"
    signature.of(path).write_text("of the export before")
    command.export("small", "ready", str(path))
    assert not signature.of(path).exists()
