"""Labs under adverse conditions: full disk, read-only state, a corrupt image, dead machines, two at once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import STORE, TOPOLOGY, Home, fill, small_disk

from labctl.host import process

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="real labs need root"),
    pytest.mark.skipif(bool(process.missing("systemd-nspawn", "mkfs.ext4")), reason="needs systemd-nspawn, mkfs.ext4"),
]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    made.clear()
    assert made.leaks(*made.names) == []


def pid(home: Home, lab: str, node: str) -> int:
    """The process of a machine."""
    return int(json.loads((home.path / "labs" / lab / "nodes" / node / "machine.json").read_text())["pid"])


def machines(home: Home, lab: str) -> str:
    return next(row["machines"] for row in home.json("list") if row["name"] == lab)


# --- machines --------------------------------------------------------------------------------------


def test_a_machine_that_is_killed_is_seen_named_and_brought_back(home: Home) -> None:
    name = f"killed-{os.getpid()}"
    topology = str(home.topology(name))
    home.must("up", topology)
    home.write(name, "kept")
    os.kill(pid(home, name, "second"), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while machines(home, name) != "1/2 running":
        assert time.monotonic() < deadline
    looked = home.run("status", "--check", name)
    assert (looked.status, "second: machine is not running" in looked.err) == (1, True), str(looked)
    assert "second is not running" in home.run("ssh", name, "second").err.replace(f" of {name}", "")

    assert "started second" in home.must("repair", name).out
    home.must("status", "--check", name)
    os.kill(pid(home, name, "first"), signal.SIGKILL)
    home.must("up", topology)
    home.must("status", "--check", name)
    assert home.read(name) == ("kept", "kept")


def test_a_lab_comes_back_after_the_host_lost_everything_but_its_disks(home: Home) -> None:
    name = f"reboot-{os.getpid()}"
    home.topology(name)
    home.must("up", str(home.path / f"{name}.yaml"))
    home.write(name, "kept")
    for node in ("first", "second"):
        os.kill(pid(home, name, node), signal.SIGKILL)
    time.sleep(1)
    for node in ("first", "second"):
        process.run(["umount", home.path / "labs" / name / "nodes" / node / "root"])
        process.run(["ip", "netns", "delete", f"labctl.{name}.{node}"])
    process.run(["ip", "netns", "delete", f"labctl.{name}"])
    assert machines(home, name) == "gone"
    home.must("repair", name)
    assert home.read(name) == ("kept", "kept")
    assert machines(home, name) == "2/2 running"


# --- disks -----------------------------------------------------------------------------------------


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path) as point:
        yield point


def test_a_full_disk_stops_what_writes_and_nothing_is_lost(small_disk: Path) -> None:
    home, name = Home(small_disk / "home"), f"full-{os.getpid()}"
    try:
        topology = str(home.topology(name))
        home.must("up", topology)
        home.write(name, "kept")
        home.must("snapshot", "create", name, "ready")
        home.must(
            "ssh", name, "first", "--", "sh", "-c", "head -c 40000000 /dev/urandom >/dev/disk/by-id/virtio-data; sync"
        )
        home.must(
            "ssh",
            name,
            "first",
            "--",
            "sh",
            "-c",
            "printf '%-20s' later >/dev/disk/by-id/virtio-data; echo later >/root/mark",
        )
        fill(small_disk, leave=300 * 2**20)

        for words in (("snapshot", "create", name, "second"), ("snapshot", "restore", name, "ready")):
            failed = home.run(*words)
            assert (failed.status, f"a new layer of {name} needs about" in failed.err) == (1, True), str(failed)
        assert {row["name"] for row in home.json("snapshot", "list", name)} == {"ready"}
        assert home.read(name) == ("later", "later"), "the lab goes on as it was"
        refused = home.run("up", topology.replace(name, "another")) if home.topology("another") else None
        assert refused is not None
        assert (refused.status, " free; 2 new nodes need about" in refused.err) == (1, True), str(refused)

        (small_disk / "ballast").unlink()
        home.must("snapshot", "restore", name, "ready")
        assert home.read(name) == ("kept", "kept")
        fill(small_disk, leave=0)
        home.must("down", name)
        assert home.leaks(name) == []
    finally:
        (small_disk / "ballast").unlink(missing_ok=True)
        home.clear()
    assert home.leaks(*home.names) == []


def test_state_that_cannot_be_written_is_an_error_and_no_bug(home: Home) -> None:
    name = f"ro-{os.getpid()}"
    topology = str(home.topology(name))
    home.must("up", topology)
    process.run(["mount", "--bind", home.path, home.path])
    process.run(["mount", "-o", "remount,bind,ro", home.path])
    try:
        assert machines(home, name) == "2/2 running"
        home.must("ssh", name, "first", "--", "true")
        for words in (
            ("up", topology),
            ("snapshot", "create", name, "x"),
            ("down", name),
            ("repair", name),
            ("clone", name, "copy"),
        ):
            failed = home.run(*words)
            assert failed.status == 1, str(failed)
            assert "cannot write" in failed.err, str(failed)
    finally:
        process.run(["umount", home.path])
    home.must("status", "--check", name)


# --- images ----------------------------------------------------------------------------------------


@pytest.fixture
def writable_store(home: Home) -> Iterator[Path]:
    """The machine's image store, under a layer that may be changed."""
    (home.path / "images").unlink()
    for part in ("images", "upper", "work"):
        (home.path / part).mkdir()
    options = f"lowerdir={STORE},upperdir={home.path / 'upper'},workdir={home.path / 'work'},redirect_dir=on"
    process.run(["mount", "-t", "overlay", "labctl-test", "-o", options, home.path / "images"])
    yield home.path / "images"
    home.clear()
    process.run(["umount", home.path / "images"])


def test_a_corrupt_or_missing_image_layer_is_named_before_a_machine_stands_on_it(
    home: Home, writable_store: Path
) -> None:
    name = f"corrupt-{os.getpid()}"
    topology = str(home.topology(name))
    home.must("up", topology)
    layers = json.loads((home.path / "labs" / name / "lab.json").read_text())["image"]
    image = next(layer for layer in layers if (Path(layer) / "tree/etc/passwd").exists())
    passwd = Path(image) / "tree" / "etc" / "passwd"
    whole = passwd.read_text()
    passwd.write_text(whole + "intruder:x:0:0::/:/bin/sh\n")
    os.kill(pid(home, name, "second"), signal.SIGKILL)

    for words in (("up", topology), ("repair", name), ("up", str(home.topology("corrupt-too")))):
        failed = home.run(*words)
        assert (failed.status, "was modified after it was built" in failed.err) == (1, True), str(failed)

    Path(image).rename(Path(image).with_name("gone"))
    failed = home.run("repair", name)
    assert (failed.status, f"used by {name}, is gone" in failed.err) == (1, True), str(failed)
    assert f"labctl down {name}" in failed.err
    home.must("down", name)


# --- two at once -----------------------------------------------------------------------------------


def test_the_second_up_of_a_lab_says_who_does_the_first(home: Home) -> None:
    name = f"twice-{os.getpid()}"
    topology = str(home.topology(name))
    first = home.start("up", topology)
    deadline = time.monotonic() + 20
    while not (home.path / "labs" / name / "lab.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = home.run("up", topology)
    assert second.status == 1, str(second)
    assert f"the lab {name} is being changed by pid {first.pid}: labctl up {topology}" in second.err
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, out + err
    home.must("status", "--check", name)


def test_two_labs_with_the_same_addresses_are_built_at_once(home: Home) -> None:
    names = [f"twin-{letter}-{os.getpid()}" for letter in "ab"]
    running = [home.start("up", str(home.topology(name))) for name in names]
    for each in running:
        out, err = each.communicate(timeout=300)
        assert each.returncode == 0, out + err
    for name in names:
        home.must("status", "--check", name)
        home.write(name, name)
    assert [home.read(name) for name in names] == [(name, name) for name in names]


# --- topologies ------------------------------------------------------------------------------------


def test_a_topology_that_is_edited_or_deleted_does_not_harm_its_running_lab(home: Home) -> None:
    name = f"edited-{os.getpid()}"
    topology = home.topology(name)
    home.must("up", str(topology))
    topology.write_text(TOPOLOGY.format(name=name).replace("10.0.0.12", "10.0.0.99"))
    failed = home.run("up", str(topology))
    assert (failed.status, "differ from the lab" in failed.err) == (1, True)
    topology.write_text("nodes: [")
    failed = home.run("up", str(topology))
    assert (failed.status, f"{topology}:2:1: not YAML" in failed.err) == (1, True), str(failed)
    topology.unlink()
    assert home.run("up", str(topology)).status == 1
    home.must("snapshot", "create", name, "ready")
    home.must("snapshot", "restore", name, "ready")
    home.must("status", "--check", name)
    home.must("down", name)


# --- images killed while they are built ------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.5, 10.0])
def test_an_image_whose_build_was_killed_leaves_nothing_after_gc(seconds: float, home: Home) -> None:
    (home.path / "images").unlink()
    name = f"build-{os.getpid()}"
    running = home.start("up", str(home.topology(name)))
    deadline = time.monotonic() + 60
    while not list((home.path / "images").glob(".building-*")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(seconds)
    assert running.poll() is None, running.communicate()
    running.kill()
    running.communicate()
    found = {(row["kind"], row["name"].partition("-")[0]) for row in home.json("gc", "--dry-run")["found"]}
    assert ("image build", "debian12") in found
    home.must("gc")
    assert not [p for p in (home.path / "images").iterdir() if p.name.startswith(".building")]
    assert [
        line for line in process.output(["ps", "-eo", "args"]).splitlines() if str(home.path / "images") in line
    ] == []
    home.must("down", name)
