"""KVM is believed only when a kernel ran: with emulators that behave like the machines that were met."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.host import process
from labctl.images import kvm
from labctl.operations.script import KVM_PROBE

FIRST_LINE = "[    0.000000] Linux version 6.1.0 (stock)"
#: Find the file behind -serial and write what a kernel prints.
SERIAL = 'for w in "$@"; do case $w in file:*) serial=${w#file:} ;; esac; done\n'


def emulator(directory: Path, body: str) -> str:
    """An executable that is called with QEMU's arguments, and notes its process."""
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\necho $$ >>{directory}/pids\n{SERIAL}{body}\n")
    path.chmod(0o755)
    return str(path)


def boot(directory: Path, body: str, seconds: int = 1) -> kvm.Boot:
    kernel = directory / "vmlinuz"
    kernel.write_text("a kernel")
    return kvm.live_probe(kernel, qemu=emulator(directory, body), seconds=seconds)


def nothing_left(directory: Path) -> bool:
    pids = [int(line) for line in (directory / "pids").read_text().split()]
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_kernel_that_prints_its_first_line_proves_kvm(tmp_path: Path) -> None:
    seen = boot(tmp_path, f'echo "{FIRST_LINE}" >"$serial"; exec sleep 60', seconds=20)

    assert (seen.works, seen.model, seen.said) == (True, "host", FIRST_LINE)
    assert seen.seconds < 10
    assert nothing_left(tmp_path)


def test_a_kernel_that_hangs_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    began = time.monotonic()
    seen = boot(tmp_path, 'echo "SeaBIOS (version 1.16.2)" >"$serial"; exec sleep 60')

    assert not seen.works
    assert seen.said == "CPU host: no kernel output within 1 s; CPU qemu64: no kernel output within 1 s"
    assert time.monotonic() - began < 15
    assert nothing_left(tmp_path)


def test_an_emulator_that_ends_is_quoted_and_the_next_model_is_tried(tmp_path: Path) -> None:
    seen = boot(
        tmp_path,
        'case "$*" in *"-cpu host"*) echo "error: failed to set MSR 0x10a" >&2; exit 1 ;; esac\n'
        f'echo "{FIRST_LINE}" >"$serial"; exec sleep 60',
        seconds=20,
    )
    assert (seen.works, seen.model) == (True, "qemu64")


def test_a_kernel_that_printed_and_ended_at_once_counts(tmp_path: Path) -> None:
    assert boot(tmp_path, f'echo "{FIRST_LINE}" >"$serial"').works


def test_an_emulator_ends_with_a_probe_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    qemu, pids = emulator(tmp_path, "exec sleep 60"), tmp_path / "pids"
    with subprocess.Popen(["sh", KVM_PROBE, qemu, tmp_path / "vmlinuz", "60"]) as probe:
        while not (pids.exists() and pids.read_text()):
            time.sleep(0.01)
        probe.kill()
    deadline = time.monotonic() + 5
    while not nothing_left(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert nothing_left(tmp_path)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose /dev/kvm opens and makes machines."""
    (tmp_path / "boot_id").write_text("first-boot\n")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu svm sse2\n")
    monkeypatch.setattr(kvm, "BOOT_ID", tmp_path / "boot_id")
    monkeypatch.setattr(kvm, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(kvm, "MODULES", tmp_path / "module")
    monkeypatch.setattr(kvm, "device", lambda: kvm.Device(True, True, 12, True, ""))
    monkeypatch.setattr(kvm, "stock_kernel", lambda: tmp_path / "vmlinuz")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(kvm, "QEMU", "qemu")
    emulator(tmp_path, "exit 1")
    return tmp_path


def test_one_probe_a_boot_of_the_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[Path] = []

    def probe(vmlinuz: Path) -> kvm.Boot:
        probes.append(vmlinuz)
        return kvm.Boot(len(probes) > 1, "", "said", 0.1)

    monkeypatch.setattr(kvm, "live_probe", probe)
    assert [kvm.examine().works for _ in range(3)] == [False, False, False]
    assert len(probes) == 1

    (machine / "boot_id").write_text("second-boot\n")
    assert kvm.examine().works
    kvm.examine(fresh=True)
    assert len(probes) == 3


def test_a_broken_record_is_no_answer(machine: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "live_probe", lambda vmlinuz: kvm.Boot(True, "host", "said", 0.1))
    home.mkdir(parents=True, exist_ok=True)
    for text in ("", "[]", '{"key": "first-boot 0"}', json.dumps({"key": f"first-boot {os.geteuid()}", "other": 1})):
        (home / "kvm.json").write_text(text)
        assert kvm.examine().works


def test_a_device_that_lies_is_named(machine: Path) -> None:
    seen = kvm.examine()

    assert not seen.works
    assert seen.sentence.startswith("/dev/kvm opens but no kernel runs under it: CPU host: QEMU ended")
    assert seen.flags == ("svm",)


def test_nothing_is_kept_when_there_is_no_device(machine: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "device", lambda: kvm.Device(False, False, 0, False, "there is no /dev/kvm"))

    seen = kvm.examine()

    assert (seen.works, seen.boot, seen.sentence) == (False, None, "there is no /dev/kvm")
    assert not (home / "kvm.json").exists()


def test_without_a_kernel_the_probe_says_so(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> Path:
        raise LabError("apt knows no package", "apt-get update")

    monkeypatch.setattr(kvm, "stock_kernel", unreachable)
    seen = kvm.examine()

    assert not seen.works
    assert "no kernel to boot: apt knows no package" in seen.sentence


@pytest.mark.parametrize(
    ("files", "wanted"),
    [({}, False), ({"kvm_amd": "1"}, True), ({"kvm_intel": "Y"}, True), ({"kvm_intel": "N"}, False)],
)
def test_nested_is_what_the_loaded_module_says(machine: Path, files: dict[str, str], wanted: bool) -> None:
    for module, text in files.items():
        (machine / "module" / module / "parameters").mkdir(parents=True)
        (machine / "module" / module / "parameters/nested").write_text(text + "\n")
    assert kvm.nested() is wanted


@pytest.mark.system
@pytest.mark.skipif(bool(process.missing(kvm.QEMU)), reason=f"{kvm.QEMU} is not installed")
def test_this_machines_answer_comes_from_a_kernel_or_from_a_reason() -> None:
    seen = kvm.examine()

    assert seen.sentence
    if seen.boot is not None and seen.boot.works:
        assert "Linux version" in seen.boot.said
