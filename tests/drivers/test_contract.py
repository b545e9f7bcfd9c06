"""What every driver does alike: the in-memory one always, the others where their machines can be made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from subject import NODE, OTHER, Subject, at_rest, subject_of
from support import SMALL

from labctl import drivers
from labctl.drivers import DRIVERS, halt
from labctl.errors import LabError
from labctl.host import paths
from labctl.host.links import WHOLE, Shape
from labctl.lab import portable, snapshot
from labctl.records.lab import Lab

TOPOLOGY = SMALL.replace("64 MiB", "128 MiB")


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Virtual machines that have booted: emulated, each needs most of a minute for it."""
    return at_rest("libvirt", TOPOLOGY, tmp_path_factory.mktemp("booted"))


@pytest.fixture(
    params=[
        "fake",
        *(pytest.param(name, marks=pytest.mark.system) for name in ("nspawn", "libvirt", "vagrant", "openstack")),
    ]
)
def subject(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Subject]:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path_factory.getbasetemp() / "vagrant.d"))
    ready = request.getfixturevalue("booted") if request.param == "libvirt" else None
    with subject_of(request.param, TOPOLOGY, tmp_path, monkeypatch, ready) as made:
        yield made


@pytest.mark.brief
def test_a_machine_lives_from_create_to_destroy(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    assert not driver.machine(lab, NODE).exists

    driver.create(lab, NODE)
    assert (driver.machine(lab, NODE).exists, driver.machine(lab, NODE).running) == (True, False)

    driver.start(lab, NODE)
    assert driver.machine(lab, NODE).running
    assert subject.ask("echo $((6 * 7))") == "42\n"
    subject.ask("echo precious >kept; sync")
    assert driver.console(lab, NODE).stat().st_size > 0

    began = time.monotonic()
    driver.stop(lab, NODE, 30)
    assert time.monotonic() - began < 25, "the machine did not shut down, it was killed"
    assert (driver.machine(lab, NODE).exists, driver.machine(lab, NODE).running) == (True, False)
    with pytest.raises(LabError, match=NODE):
        driver.connect(lab, NODE, 1)

    driver.start(lab, NODE)
    assert subject.ask("cat kept") == "precious\n"

    assert driver.destroy(lab, NODE) == []
    assert not driver.machine(lab, NODE).exists
    assert [thing for thing in subject.left() if NODE in thing] == []


def test_every_call_may_be_repeated(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    subject.begin()
    subject.ask("echo here >file")
    driver.create_network(lab)
    subject.begin()
    assert subject.ask("cat file") == "here\n"

    for _ in range(2):
        driver.stop(lab, NODE, 30)
    for _ in range(2):
        assert driver.destroy(lab, NODE) == []
    for _ in range(2):
        assert driver.destroy_network(lab) == []


def test_a_machine_that_a_killed_labctl_shuts_down_does_not_count_as_going_on(subject: Subject) -> None:
    """It may answer for another second: `up` and `repair` wait for its end and start it again."""
    driver, lab = subject.driver, subject.lab
    driver.create_network(lab)
    subject.begin()
    assert driver.lost(lab, NODE) == ""

    with suppress(KeyboardInterrupt), halt.told(lab, NODE):
        raise KeyboardInterrupt  # as SIGKILL: the mark stays

    assert "shut down" in driver.lost(lab, NODE)
    driver.stop(lab, NODE, 0)
    assert driver.lost(lab, NODE) == ""
    subject.begin()
    assert driver.lost(lab, NODE) == ""
    if not driver.capabilities().own_kernel:  # it would boot again
        assert subject.ask("echo on") == "on\n"


def test_a_running_machine_is_destroyed_with_its_files(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    subject.begin()
    subject.ask("echo old >file")

    assert driver.destroy(lab, NODE) == []

    assert not driver.machine(lab, NODE).running
    assert not lab.node_directory(NODE).exists()
    subject.begin()
    assert subject.ask("test ! -e file && echo fresh") == "fresh\n"


def test_a_machine_of_a_node_that_the_record_does_not_have_is_destroyed_too(subject: Subject) -> None:
    """As a restore leaves one that had joined since the snapshot, when it is killed on the way."""
    driver, lab, whole = subject.driver, subject.lab, subject.lab.spec
    for node in whole.nodes:
        subject.begin(node)
    lab.spec = whole.model_copy(update={"nodes": {NODE: whole.nodes[NODE]}})

    for stranger in (OTHER, OTHER, "never-there"):
        assert driver.destroy(lab, stranger) == []
        assert not driver.machine(lab, stranger).exists
        assert [thing for thing in subject.left() if stranger in thing] == []

    assert subject.ask("echo untouched") == "untouched\n"
    lab.spec = whole
    subject.begin(OTHER)
    assert subject.ask("echo anew", OTHER) == "anew\n"


def reached(subject: Subject, node: str = NODE) -> bool:
    """True when a machine answers on SSH within seconds."""
    try:
        with subject.driver.connect(subject.lab, node, 3) as session:
            return session.run("true", timeout=5).status == 0
    except LabError:
        return False


def test_a_paused_machine_answers_nothing_and_goes_on_where_it_was(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    with pytest.raises(LabError, match=f"{NODE} of .* is not running"):
        driver.pause(lab, NODE)
    driver.resume(lab, NODE)
    subject.begin()
    subject.ask("echo here >file")
    assert reached(subject)

    for _ in range(2):
        driver.pause(lab, NODE)
    machine = driver.machine(lab, NODE)
    assert (machine.running, machine.paused) == (True, True)
    assert not reached(subject)

    for _ in range(2):
        driver.resume(lab, NODE)
    assert not driver.machine(lab, NODE).paused
    assert subject.ask("cat file") == "here\n"


@pytest.mark.parametrize("end", ["stop", "power off", "destroy"])
def test_a_paused_machine_can_be_ended(end: str, subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    subject.begin()
    assert reached(subject) or subject.ask("true") == ""
    driver.pause(lab, NODE)
    if end == "destroy":
        assert driver.destroy(lab, NODE) == []
    else:
        driver.stop(lab, NODE, 30 if end == "stop" else 0)
    machine = driver.machine(lab, NODE)
    assert (machine.running, machine.paused) == (False, False)


def test_an_unplugged_machine_is_not_reached_until_it_is_plugged_in(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    subject.begin()
    subject.ask("true")
    for _ in range(2):
        driver.plug(lab, NODE, "management", False)
    assert not reached(subject)
    assert driver.machine(lab, NODE).running
    for _ in range(2):
        driver.plug(lab, NODE, "management", True)
    assert subject.ask("echo back") == "back\n"
    with pytest.raises(LabError, match="is not in a network 'nowhere'"):
        driver.plug(lab, NODE, "nowhere", False)


def test_a_link_takes_a_shape_and_loses_it(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    subject.begin()
    if driver.name == "openstack":
        with pytest.raises(LabError, match="needs the hypervisor's host"):
            driver.shape(lab, NODE, "management", Shape(loss=1))
        return
    for shape in (Shape(loss=1), Shape(loss=2), WHOLE, WHOLE):
        driver.shape(lab, NODE, "management", shape)
    assert subject.ask("echo whole") == "whole\n"


def test_a_machine_that_starts_again_has_nothing_of_what_its_kernel_held(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    subject.begin()
    if driver.name != "fake":  # whose machines share the host's kernel and its cards
        subject.ask("ip link add left-over type bridge; ip address add 10.9.9.9/32 dev left-over")
    driver.stop(lab, NODE, 0)
    subject.begin()
    assert subject.ask("test ! -e /sys/class/net/left-over && echo gone") == "gone\n"


def test_the_files_of_a_machine_are_read_from_outside_whether_it_runs_or_not(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    assert driver.files(lab, NODE) is None
    if driver.capabilities().own_kernel:
        pytest.skip("a virtual machine's disk is its own while it runs")
    subject.begin()
    subject.ask("echo seen >kept; sync")
    where = subject.ask("pwd").strip() if driver.name != "fake" else "/"
    for _ in range(2):
        root = driver.files(lab, NODE)
        assert root is not None
        assert (root / where.lstrip("/") / "kept").read_text() == "seen\n"
        driver.stop(lab, NODE, 0)


@pytest.mark.brief
def test_what_a_machine_wrote_is_known_by_layer(subject: Subject) -> None:
    driver, lab = subject.driver, subject.lab
    if driver.capabilities().own_kernel:
        assert driver.written(lab, NODE, lab.stack) == (), "this host does not read disks of machines"
        return
    subject.begin()
    place = "" if driver.name == "fake" else "/root/"
    subject.ask(f"echo old >{place}first")
    subject.stand_on()
    subject.ask(f"echo new >{place}second")
    found = driver.written(lab, NODE, lab.stack)
    assert len(found) == 2
    assert (found[0] / f"{place}second".lstrip("/")).read_text() == "new\n"
    assert (found[1] / f"{place}first".lstrip("/")).read_text() == "old\n"
    assert not (found[1] / f"{place}second".lstrip("/")).exists()


def test_a_frozen_layer_is_seen_from_above_and_does_not_change(subject: Subject) -> None:
    for node in subject.lab.spec.nodes:
        subject.begin(node)
        subject.ask(f"echo {node} >name; mkdir -p tree/twig; echo leaf >tree/twig/leaf", node)
    changes = "rm name; mv tree other; mkdir tree; echo new >tree/new"

    subject.stand_on()
    assert subject.ask("cat name tree/twig/leaf") == "first\nleaf\n"
    subject.ask(changes)
    assert subject.ask("cat other/twig/leaf tree/new; ls tree") == "leaf\nnew\nnew\n"

    subject.stand_on()
    assert subject.ask("cat other/twig/leaf; ls tree; test ! -e name") == "leaf\nnew\n"

    subject.stand_on("1")
    assert subject.ask("cat name tree/twig/leaf; test ! -e other") == "first\nleaf\n"
    assert subject.ask("cat name", OTHER) == "second\n"
    assert len(list((subject.lab.directory / "layers").iterdir())) == 4


def test_machines_at_rest_are_down_and_may_rest_again(subject: Subject) -> None:
    for node in subject.lab.spec.nodes:
        subject.begin(node)
    for _ in range(2):
        subject.driver.rest(subject.lab, 30)
    assert not any(subject.driver.machine(subject.lab, n).running for n in subject.lab.spec.nodes)


def test_a_node_that_was_removed_has_nothing_of_frozen_layers_when_it_comes_again(subject: Subject) -> None:
    for node in subject.lab.spec.nodes:
        subject.begin(node)
        subject.ask("echo old >file", node)
    subject.stand_on()
    assert subject.driver.destroy(subject.lab, OTHER) == []
    subject.begin(OTHER)
    assert subject.ask("test ! -e file && echo fresh", OTHER) == "fresh\n"
    subject.ask("echo new >file", OTHER)
    subject.stand_on()
    assert subject.ask("cat file", OTHER) == "new\n"
    assert subject.ask("cat file") == "old\n"


def test_a_snapshot_goes_to_a_host_that_has_nothing_of_the_lab(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, lab, file = subject.driver, subject.lab, tmp_path / "lab.tar.zst"
    monkeypatch.setattr(drivers, "get", lambda *_: driver)
    for node in lab.spec.nodes:
        subject.begin(node)
        subject.ask(f"echo {node} >name", node)
    boot = subject.ask("cat /proc/sys/kernel/random/boot_id")
    snapshot.create(lab, "ready")
    subject.ask("echo later >name")
    if driver.name in ("vagrant", "openstack"):
        with pytest.raises(LabError, match="cannot be exported: its snapshots are"):
            portable.export(lab, "ready", file)
        return
    portable.export(lab, "ready", file)
    assert subject.ask("cat name") == "later\n"
    subject.leave()

    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "elsewhere"))
    paths.home().mkdir()
    if driver.name == "nspawn":  # a whole Debian: it is here already
        paths.images().symlink_to(lab.layers[0].parent)
    subject.lab = portable.import_(file, portable.read(file))
    snapshot.restore(subject.lab, "ready")

    assert [subject.ask("cat name", node) for node in (NODE, OTHER)] == ["first\n", "second\n"]
    if driver.name == "libvirt":
        assert subject.ask("cat /proc/sys/kernel/random/boot_id") == boot, "it booted, and did not go on"
    assert subject.leave() == []


def test_machines_are_apart_from_each_other(subject: Subject) -> None:
    for node in (NODE, OTHER):
        subject.begin(node)
        subject.ask(f"echo {node} >name", node)
    assert [subject.ask("cat name", node) for node in (NODE, OTHER)] == ["first\n", "second\n"]

    subject.driver.stop(subject.lab, NODE, 30)

    assert subject.driver.machine(subject.lab, OTHER).running
    assert subject.ask("cat name", OTHER) == "second\n"


def test_a_failing_command_brings_back_its_status_and_both_outputs(subject: Subject) -> None:
    subject.begin()
    lines: list[str] = []
    with subject.driver.connect(subject.lab, NODE, 60) as session:
        result = session.run("echo out; echo err >&2; exit 7", timeout=30, on_line=lines.append)
    assert (result.status, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert lines == ["out"]


def test_the_in_memory_driver_is_offered_to_nobody() -> None:
    assert "fake" not in DRIVERS
