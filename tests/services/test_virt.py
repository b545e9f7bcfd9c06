"""Each compute node finds out whether its guests run under KVM, and nova's files say what it found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import ROOT, planned, specify

from labctl.host import process
from labctl.operations.node import Command, File
from labctl.operations.script import program
from labctl.services import virt
from labctl.services.base import Context
from labctl.topology.model import VirtType
from labctl.topology.spec import LabSpec

RUNS = 'for w in "$@"; do case $w in file:*) echo "Linux version 6.1" >"${w#file:}" ;; esac; done; exec sleep 20'


@pytest.fixture
def lab() -> LabSpec:
    return specify(ROOT / "topologies/zed-2node.yaml", driver="libvirt")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node in a directory: its record and facts, an emulator, and a systemctl that tells what it was asked."""
    for name in ("FACTS", "RECORD", "PROBE"):
        monkeypatch.setattr(virt, name, str(tmp_path / name.lower()))
    place(tmp_path, "systemctl", f'echo "$@" >>{tmp_path}/asked')
    place(tmp_path, "modprobe", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def place(directory: Path, name: str, body: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{body}\n")
    (directory / name).chmod(0o755)


def prove(lab: LabSpec, node: Path) -> int:
    probe, command = virt.proof(Context.of(lab))
    assert isinstance(probe, File)
    assert isinstance(command, Command)
    (node / "probe").write_text(probe.content)
    return process.run(["sh", "-c", f"patience=1\n{command.shell()}"], check=False, timeout=120).returncode


def written(lab: LabSpec, node: Path) -> str:
    """nova.conf's virt_type as put_file writes it."""
    content = next(f for f in planned(lab).files("compute") if f.path == "/etc/nova/nova.conf").content
    target = node / "nova.conf"
    mine = File(str(target), content, "root" if os.geteuid() == 0 else "", "root", "0600")
    run = node / "run"
    (run / "files" / str(target).lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    (run / "files" / str(target).lstrip("/")).write_text(content)
    (run / "program.sh").write_text(program("configure", (mine,)))
    process.run(["env", f"LABCTL_FACTS={virt.FACTS}", "sh", run / "program.sh"])
    return next(line for line in target.read_text().splitlines() if line.startswith("virt_type"))


@pytest.mark.skipif(os.geteuid() != 0, reason="put_file gives files to root")
def test_a_node_on_which_a_kernel_ran_gets_kvm_and_another_emulation(lab: LabSpec, node: Path) -> None:
    place(node, "qemu-system-x86_64", "echo 'no KVM' >&2; exit 1")
    assert prove(lab, node) == 10
    assert written(lab, node) == "virt_type = qemu"
    assert "fails: CPU host: QEMU ended, no KVM" in (node / "record").read_text()
    assert not (node / "asked").exists(), "nova-compute was stopped though nothing changed"

    (node / "record").write_text("an-earlier-boot fails: …")
    place(node, "qemu-system-x86_64", RUNS)
    assert prove(lab, node) == 10
    assert written(lab, node) == "virt_type = kvm"
    assert (node / "asked").read_text() == "stop nova-compute\n"

    (node / "record").write_text("an-earlier-boot works …")
    place(node, "qemu-system-x86_64", "exit 1")
    assert prove(lab, node) == 10
    assert written(lab, node) == "virt_type = qemu"


def test_a_node_finds_out_once_a_boot(lab: LabSpec, node: Path) -> None:
    place(node, "qemu-system-x86_64", RUNS)
    assert prove(lab, node) == 10
    place(node, "qemu-system-x86_64", "exit 1")
    assert prove(lab, node) == 0
    assert "works host" in (node / "record").read_text()


def test_what_a_topology_says_is_not_asked_for_again(lab: LabSpec) -> None:
    assert lab.virt_type is VirtType.AUTO
    for said, options in (
        (VirtType.KVM, {"virt_type": "kvm"}),
        (VirtType.QEMU, {"virt_type": "qemu", "cpu_mode": "none"}),
    ):
        ctx = Context.of(lab.model_copy(update={"virt_type": said}))
        assert virt.proof(ctx) == ()
        assert virt.options(ctx) == options


def test_containers_are_emulated_without_asking() -> None:
    lab = specify(ROOT / "topologies/zed-2node.yaml", driver="nspawn")
    assert lab.virt_type is VirtType.QEMU
    assert not any(
        "KVM" in o.title
        for s in planned(lab).stages
        for items in s.nodes.values()
        for o in items
        if hasattr(o, "title")
    )
