"""Machines that go on from saved memory, without a libvirt: whose it is, in what order they go on, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.drivers.libvirt import disks, machine, memory, portable, seed
from labctl.drivers.libvirt.connection import library
from labctl.drivers.libvirt.domain import Accelerator
from labctl.drivers.libvirt.machine import Libvirt
from labctl.errors import BrokenLabError, LabError
from labctl.records.lab import MEMORY, Lab


def saved(lab: Lab, number: str, node: str) -> Path:
    path = lab.layer(number) / node / MEMORY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("memory")
    (path.parent / disks.FACTS).write_text(json.dumps({"of": seed.mark(lab, node)}))
    return path


def test_a_machine_at_rest_goes_on_once_from_its_own_layer(lab: Lab) -> None:
    assert memory.pending(lab, "first") is None
    path = saved(lab, "1", "first")
    assert memory.pending(lab, "first") == path
    memory.spend(lab, "first")
    assert memory.pending(lab, "first") is None


def test_machines_over_a_frozen_layer_go_on_from_its_memory_which_stays(lab: Lab) -> None:
    path = saved(lab, "1", "first")
    lab.layer("2").mkdir()
    memory.branch(lab, ("1",), "2")
    lab.meta["stack"] = ["2", "1"]
    assert (memory.pending(lab, "first"), memory.pending(lab, "second")) == (path, None)

    memory.spend(lab, "first")
    assert memory.pending(lab, "first") is None
    assert path.exists()


def test_a_copy_of_a_lab_starts_from_the_disks(lab: Lab) -> None:
    saved(lab, "1", "first")
    lab.layer("2").mkdir()
    lab.meta.update({"id": "another", "stack": ["2", "1"]})
    memory.branch(lab, ("1",), "2")
    assert memory.pending(lab, "first") is None


def test_memory_that_is_gone_is_an_error_and_no_cold_start(lab: Lab) -> None:
    path = saved(lab, "1", "first")
    lab.layer("2").mkdir()
    memory.branch(lab, ("1",), "2")
    lab.meta["stack"] = ["2", "1"]
    path.unlink()
    with pytest.raises(BrokenLabError, match=r"the saved memory of first, .*, is gone"):
        memory.pending(lab, "first")


def test_clocks_are_set_to_what_the_host_s_shows_when_the_command_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ways, behind = [1000.3], [2.0, 0.4, 0.4], list[float]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def run(command: str, timeout: float) -> SimpleNamespace:
        way = ways.pop(0)
        sleep(way)
        if found := re.search(r"-s @(\d+)", command):
            behind.append(clock[0] - int(found[1]))
        sleep(way)
        return SimpleNamespace(status=0, stderr="")

    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: clock[0], sleep=sleep))
    memory.set_clocks(lambda node: nullcontext(SimpleNamespace(run=run)), ["first"])  # type: ignore[arg-type, return-value]
    assert behind == [pytest.approx(0, abs=0.001)]


class Paused:
    """A domain that remembers in what order things were done."""

    def __init__(self, node: str, done: list[str]) -> None:
        self.node, self.done = node, done

    def resume(self) -> None:
        self.done.append(f"resume {self.node}")


@pytest.fixture
def at_rest(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[Libvirt, list[str]]:
    """A driver whose lab's machines have their memory saved; and what is done with them from now on."""
    driver, done, domains = Libvirt(), list[str](), dict[str, Paused]()
    for node in lab.spec.nodes:
        saved(lab, "1", node)
        lab.node_directory(node).mkdir(parents=True)

    def load(connection: object, path: Path, node: str) -> None:
        domains[node] = Paused(node, done)

    monkeypatch.setattr(driver, "_domain", lambda lab, node: domains.get(node))
    monkeypatch.setattr(driver, "_description", lambda lab, node: node)
    monkeypatch.setattr(driver, "_end", lambda lab, node: done.append(f"end {node}") or domains.pop(node))
    monkeypatch.setattr(memory, "load", load)
    monkeypatch.setattr(memory, "set_clocks", lambda connect, nodes: done.append(f"clocks {' '.join(nodes)}"))
    monkeypatch.setattr(machine.wiring, "plug_in", lambda spec, node: done.append(f"plug {node.name}"))
    return driver, done


TOGETHER = ["plug first", "plug second", "resume first", "resume second", "clocks first second"]


def while_loading(monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], None]) -> None:
    """Let something happen when a node's domain is there and its memory not yet."""
    load = memory.load

    def slow(connection: Any, path: Path, node: Any) -> None:
        load(connection, path, node)
        happens(node)

    monkeypatch.setattr(memory, "load", slow)


def test_machines_go_on_together_with_the_last_that_is_loaded(lab: Lab, at_rest: tuple[Libvirt, list[str]]) -> None:
    driver, done = at_rest
    driver.start(lab, "first")
    assert done == []
    driver.start(lab, "second")
    assert done == TOGETHER
    assert memory.pending(lab, "first") is None


def test_one_that_another_has_let_go_on_meanwhile_is_left_alone(
    lab: Lab, at_rest: tuple[Libvirt, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, done = at_rest
    finish = driver._finish

    def late(lab: Lab, node: str) -> None:
        if node == "first":
            driver.start(lab, "second")
        finish(lab, node)

    monkeypatch.setattr(driver, "_finish", late)
    driver.start(lab, "first")
    assert done == TOGETHER


def test_one_whose_memory_is_still_being_loaded_is_not_let_go(
    lab: Lab, at_rest: tuple[Libvirt, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, done = at_rest

    def the_other_is_there(node: str) -> None:
        if node == "first":
            driver.start(lab, "second")
            assert done == []

    while_loading(monkeypatch, the_other_is_there)
    driver.start(lab, "first")
    assert done == TOGETHER


def test_memory_that_a_killed_labctl_was_loading_is_loaded_again(
    lab: Lab, at_rest: tuple[Libvirt, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, done = at_rest

    def killed(node: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as only_now:
        while_loading(only_now, killed)
        with pytest.raises(KeyboardInterrupt):
            driver.start(lab, "first")
    for node in lab.spec.nodes:
        driver.start(lab, node)
    assert done == ["end first", *TOGETHER]


class Answer:
    """A session that says one thing."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, command: str, timeout: float) -> Any:
        return type("Result", (), {"stdout": self.text, "status": 0})


@pytest.mark.parametrize(
    ("accelerator", "flags", "users", "refused"),
    [
        (Accelerator("kvm", "host-passthrough"), ("svm",), "3\n", True),
        (Accelerator("kvm", "host-passthrough"), ("svm",), "0\n", False),
        (Accelerator("kvm", "host-passthrough"), ("vmx",), "3\n", False),
        (Accelerator("qemu", "qemu64"), ("svm",), "3\n", False),
    ],
)
def test_amd_processors_do_not_save_machines_that_have_guests(
    monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator, flags: tuple[str, ...], users: str, refused: bool
) -> None:
    monkeypatch.setattr(memory.kvm, "cpu_flags", lambda: flags)

    def check() -> None:
        memory._refuse_guests_on_amd(["compute"], accelerator, lambda node: Answer(users))  # type: ignore[arg-type,return-value]

    if refused:
        with pytest.raises(LabError, match="compute runs guests under KVM on an AMD processor"):
            check()
    else:
        check()


class Hypervisor:
    """A libvirt of some versions that knows one type of machine."""

    def getVersion(self) -> int:
        return 7002022

    def getLibVersion(self) -> int:
        return 9000000

    def getDomainCapabilities(self, emulator: None, arch: str, machine: str, accelerator: str, flags: int) -> str:
        if machine != "pc-i440fx-7.2":
            raise library().libvirtError("not supported")
        return "<domainCapabilities/>"


EMULATED = {"accelerator": "qemu", "machine": "pc-i440fx-7.2", "cpu": "qemu64", "qemu": "7.2.22", "processor": "A"}
KVM = {**EMULATED, "accelerator": "kvm", "cpu": "host-passthrough"}


@pytest.mark.parametrize(
    ("needs", "accelerator", "lacks"),
    [
        (EMULATED, "qemu", ""),
        ({**EMULATED, "qemu": "7.2.9"}, "qemu", ""),
        ({**EMULATED, "qemu": "7.10.0"}, "qemu", "QEMU 7.10.0 or newer; this host has 7.2.22"),
        ({**EMULATED, "machine": "pc-i440fx-9.1"}, "qemu", "QEMU's machine type pc-i440fx-9.1"),
        (EMULATED, "kvm", ""),
        (KVM, "qemu", "KVM, which does not work here"),
        (KVM, "kvm", "the processor A; this host has B"),
        ({**KVM, "processor": "B"}, "kvm", ""),
        ({**KVM, "cpu": "EPYC"}, "kvm", ""),
    ],
)
def test_what_a_host_lacks_of_what_saved_memory_needs_is_said(
    monkeypatch: pytest.MonkeyPatch, needs: dict[str, str], accelerator: str, lacks: str
) -> None:
    monkeypatch.setattr(memory.kvm, "processor", lambda: "B")
    connection = SimpleNamespace(get=Hypervisor)
    said = portable.lacking(connection, Accelerator(accelerator, ""), needs)  # type: ignore[arg-type]
    assert said.startswith(lacks) if lacks else said == ""
