"""What nobody owns is found and removed; what has an owner, another home or no mark is left alone."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import golden_image, usable
from support import SMALL, specify, write
from typer.testing import CliRunner

from labctl import drivers
from labctl.cli import app
from labctl.drivers.fake import Fake
from labctl.drivers.nspawn import PROPAGATE, Nspawn
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError
from labctl.host import cgroup, loops, network, overlay, paths, process
from labctl.lab import gc, snapshot
from labctl.lab.down import remains
from labctl.records.lab import Lab, begin_removal, locked

HOLDER = """
import time
from labctl.records.lab import locked
with locked("new", "labctl up"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def home_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for system tests: never the machine's."""
    monkeypatch.setenv("LABCTL_HOME", str(home))


def found(**wanted: bool) -> list[tuple[str, str]]:
    return [(f.kind, f.name) for f in gc.find(**wanted)]


def clean(**wanted: bool) -> None:
    assert gc.remove(gc.find(**wanted)) == []
    assert gc.find(**wanted) == []


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(drivers.LOADED, "nspawn", made)
    return made


@pytest.fixture
def lab(tmp_path: Path, driver: Fake) -> Lab:
    path = write(tmp_path, SMALL)
    made = Lab.create(specify(path), path)
    Engine(made, no_guest).up()
    return made


def test_a_clean_home_has_nothing_without_an_owner(home: Path, lab: Lab) -> None:
    with locked("small", "labctl up"):
        pass
    assert found(images=True) == []


def test_a_home_that_is_not_there_has_nothing() -> None:
    assert found(images=True) == []


# --- labs ------------------------------------------------------------------------------------------


def test_a_lab_without_a_record_or_half_removed_is_removed_and_others_stay(
    lab: Lab, driver: Fake, home: Path, tmp_path: Path
) -> None:
    (home / "labs" / "odd" / "nodes" / "first").mkdir(parents=True)
    other = Lab.create(specify(write(tmp_path, SMALL), name="other"), tmp_path)
    Engine(other, no_guest).up()
    begin_removal("other")

    assert found() == [("lab", "odd"), ("lab", "other")]
    clean()

    assert sorted(p.name for p in (home / "labs").iterdir()) == ["small"]
    assert {owner for owner, _ in driver.boxes} == {lab.id}


def test_what_a_command_works_on_is_its_own(home: Path) -> None:
    (home / "labs" / "new").mkdir(parents=True)
    log = home / "out"
    with log.open("wb") as sink:
        running = process.start([sys.executable, "-c", HOLDER], log=sink)
    try:
        deadline = time.monotonic() + 20
        while "held" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        assert found() == []
    finally:
        running.kill()
        running.wait()
    assert found() == [("lab", "new")]


def test_layers_and_machines_that_a_record_does_not_name_go_and_the_rest_stays(lab: Lab, driver: Fake) -> None:
    snapshot.create(lab, "ready")
    (lab.layer("9") / "first").mkdir(parents=True)
    (lab.node_directory("third")).mkdir()

    assert found() == [("layers", "small"), ("nodes", "small")]
    clean()

    assert sorted(p.name for p in (lab.directory / "layers").iterdir()) == ["1", "2"]
    assert sorted(p.name for p in (lab.directory / "nodes").iterdir()) == ["first", "second"]
    assert all(driver.machine(lab, n).running for n in lab.spec.nodes)


def test_what_cannot_be_read_is_left_alone(lab: Lab) -> None:
    (lab.directory / "lab.json").write_text("{")
    lab.layer("9").mkdir()
    assert found() == []
    image("a")
    with pytest.raises(LabError, match="cannot be read"):
        gc.find(images=True)


# --- locks and images ------------------------------------------------------------------------------


def image(name: str) -> Path:
    made = paths.images() / name
    (made / "tree").mkdir(parents=True)
    (made / "manifest.json").write_text(json.dumps({"tree": ""}))
    return made


def test_locks_of_nothing_go(home: Path, lab: Lab) -> None:
    (home / "locks").mkdir(exist_ok=True)
    (home / "locks" / "gone.lock").touch()
    (home / "locks" / "small.lock").touch()
    image("kept")
    for name in ("kept", "gone"):
        (home / "images" / f".{name}.lock").touch()
    assert found() == [("lock", "gone"), ("lock", "gone")]
    clean()
    assert (home / "locks" / "small.lock").exists()
    assert (home / "images" / ".kept.lock").exists()


def test_a_build_that_nobody_goes_on_with_is_removed(home: Path) -> None:
    work = home / "images" / ".building-x-1"
    (work / "tree").mkdir(parents=True)
    (work / "tree" / "file").write_bytes(b"x" * 100_000)
    (finding,) = gc.find()
    assert (finding.kind, finding.name, finding.parts) == ("image build", "x-1", (f"directory {work}",))
    assert finding.size > 100_000
    with (home / "images" / ".x-1.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert gc.find() == []
        assert finding.remove() == []
        assert work.exists()
    assert gc.remove([finding]) == []
    assert found() == [], "its lock goes with it"
    assert not work.exists()


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_processes_that_live_in_such_a_build_end_with_it_and_no_others(home: Path) -> None:
    work = paths.images() / ".building-x-1"
    (work / "tree").mkdir(parents=True)
    program = "import os, sys, time; os.chroot(sys.argv[1]); time.sleep(60)"
    inside = process.start([sys.executable, "-c", program, work / "tree"])
    # names the directory as an editor would
    beside = process.start(["sh", "-c", "sleep 60; :", work / "tree"])
    try:
        deadline = time.monotonic() + 20
        while gc._at_work(work) != [inside.pid]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        clean()
        assert inside.wait(10) == -9
        assert beside.poll() is None
    finally:
        for child in (inside, beside):
            child.kill()
            child.wait()


def test_images_go_only_when_asked_for_and_never_those_that_labs_stand_on(lab: Lab, driver: Fake) -> None:
    used, frozen, unused = (image(name) for name in ("used", "frozen", "unused"))
    lab.record_image((frozen,))
    snapshot.create(lab, "ready")
    lab.record_image((used,))

    assert found() == []
    assert found(images=True) == [("image", "unused")]
    clean(images=True)

    assert (used.exists(), frozen.exists(), unused.exists()) == (True, True, False)
    assert not [p for p in paths.images().iterdir() if p.name.startswith(".building-")]


def test_an_image_that_a_lab_took_after_it_was_found_stays(lab: Lab) -> None:
    taken, unused = image("taken"), image("unused")
    listed = [f for f in gc.find(images=True) if f.kind == "image"]
    assert [f.name for f in listed] == ["taken", "unused"]
    lab.record_image((taken,))

    assert gc.remove(listed) == []

    assert (taken.exists(), unused.exists()) == (True, False)


@pytest.mark.parametrize("name", ["held", "snapshot", "elsewhere"])
def test_prune_keeps_what_gc_keeps(lab: Lab, home: Path, tmp_path: Path, name: str) -> None:
    if name == "elsewhere":
        (tmp_path / "theirs").mkdir()
        (home / "images").symlink_to(tmp_path / "theirs")
    kept = image(name)
    if name == "snapshot":
        lab.record_image((kept,))
        snapshot.create(lab, "ready")
        lab.record_image(())
    with (paths.images() / f".{name}.lock").open("w") as handle:
        if name == "held":
            fcntl.flock(handle, fcntl.LOCK_SH)
        done = CliRunner().invoke(app, ["image", "prune", "--unused"])

    assert done.exit_code == 0, done.output
    assert kept.exists()


def test_the_store_of_another_home_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    home.mkdir()
    (home / "images").symlink_to(tmp_path / "theirs")
    image("unused")
    (tmp_path / "theirs" / ".building-x").mkdir()
    assert found(images=True) == []


def test_logs_of_what_failed_go_and_that_of_a_build_at_work_stays(home: Path) -> None:
    paths.logs().mkdir(parents=True)
    failed, building = paths.logs() / "debian12-openstack-0.log", paths.logs() / "debian12-services-1.log"
    for log in (failed, building):
        log.write_text("said\n")
    paths.images().mkdir(parents=True)
    lock = paths.images() / ".debian12-services-1.lock"
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        found = [f for f in gc.find() if f.kind == "log"]
        assert [f.name for f in found] == ["debian12-openstack-0"]
        assert gc.remove(found) == []
    assert not failed.exists()
    assert building.exists()


def test_downloads_go_with_images_and_a_shared_cache_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, shared = home / "cache/apt/archives", tmp_path / "shared/apt/archives"
    for cache in (own, shared):
        cache.mkdir(parents=True)
        (cache / "x_1_all.deb").write_text("x")
    paths.images().mkdir(parents=True)
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "shared"))
    assert not [f for f in gc.find(images=True) if f.kind == "downloads"]
    monkeypatch.delenv("LABCTL_CACHE")
    assert not [f for f in gc.find() if f.kind == "downloads"]

    assert gc.remove([f for f in gc.find(images=True) if f.kind == "downloads"]) == []

    assert not own.exists()
    assert shared.exists()


# --- real ones -------------------------------------------------------------------------------------


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Lab]:
    """A lab of two running containers, one with a disk, in a home of its own."""
    driver, image = usable(Nspawn()), golden_image()
    text = SMALL.replace("    memory: 512 MiB\n", "    memory: 512 MiB\n    disks: {data: 1 GiB}\n", 1)
    path = write(tmp_path, text)
    lab = Lab.create(specify(path, name=f"gc-{os.getpid()}"), path)
    lab.ensure_keys()
    lab.record_image(image)
    driver.create_network(lab)
    for node in lab.spec.nodes:
        driver.create(lab, node)
        driver.start(lab, node)
    yield lab
    left = [item for node in lab.spec.nodes for item in driver.destroy(lab, node)] + driver.destroy_network(lab)
    assert left == []


@pytest.mark.system
def test_a_lab_whose_record_was_deleted_is_named_with_everything_and_removed(
    containers: Lab, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    name = containers.name
    assert gc.find() == []
    (containers.directory / "lab.json").unlink()

    finding, *rest = gc.find()

    assert (finding.kind, finding.name) == ("lab", name)
    assert {f.kind for f in rest} <= {"container"}
    kinds = {part.split()[0] for part in finding.parts}
    assert kinds == {"namespace", "mount", "loop", "process", "control", "directory"}
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "other"))
    assert (gc.find(), remains(name)) == ([], [])
    assert network.NETNS.joinpath(network.lab_namespace(name)).exists()
    monkeypatch.setenv("LABCTL_HOME", str(home))

    clean()

    assert remains(name) == []
    assert not list(PROPAGATE.glob(f"labctl-{paths.mark()}-*"))


def test_directories_of_a_lab_that_cannot_be_read_stay(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lab of a newer labctl runs on: its containers' directories are not those of a lab that is gone."""
    litter = tmp_path / "of-no-lab-that-can-be-read"
    litter.mkdir()
    monkeypatch.setattr(Fake, "litter", lambda self, recorded: [litter])
    assert [finding.name for finding in gc._litter()] == [litter.name]
    directory = paths.labs() / "newer"
    directory.mkdir(parents=True)
    (directory / "lab.json").write_text('{"of": "tomorrow"}')
    assert list(gc._litter()) == []


@pytest.mark.system
def test_a_machine_of_a_node_that_its_lab_does_not_have_is_removed_and_the_others_run_on(containers: Lab) -> None:
    """As a restore leaves one that had joined since the snapshot, when it is killed on the way."""
    spec = containers.spec
    containers.spec = spec.model_copy(update={"nodes": {"first": spec.nodes["first"]}})
    containers.save()

    finding, *rest = gc.find()
    assert (finding.kind, finding.name, rest) == ("nodes", containers.name, [])
    assert {part.split()[0] for part in finding.parts} == {"namespace", "control", "directory"}
    clean()

    assert not [part for part in remains(containers.name) if "second" in part]
    assert Nspawn().machine(containers, "first").running


@pytest.mark.system
def test_machines_of_which_even_the_directory_was_deleted_are_found_by_their_marks(containers: Lab) -> None:
    for node in containers.spec.nodes:
        process.run(["umount", "--lazy", containers.node_directory(node) / "root"])
    process.run(["rm", "-rf", containers.directory])
    assert not overlay.below(paths.labs())

    assert ("lab", containers.name) in found()
    clean()

    assert remains(containers.name) == []
    assert cgroup.labs() == []
    assert loops.attached(paths.labs()) == {}
