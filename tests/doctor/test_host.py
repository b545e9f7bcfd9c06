"""What doctor says of a machine, and how the verb prints it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from labctl import __main__
from labctl.doctor import host, vagrant
from labctl.doctor.host import Facility, Finding, State
from labctl.images import kvm

LIE = kvm.Verdict(
    kvm.Device(True, True, 12, True, ""), (), False, kvm.Boot(False, "", "CPU host: no kernel output within 10 s", 10)
)
GOOD = kvm.Verdict(
    kvm.Device(True, True, 12, True, ""), ("svm",), True, kvm.Boot(True, "host", "Linux version 6.1", 0.4)
)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.check: f for f in findings}


def labctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["labctl", *words])
    with pytest.raises(SystemExit) as left:
        __main__.run()
    return int(left.value.code or 0), capsys.readouterr().out


def test_a_device_that_lies_falls_back_to_emulation_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "examine", lambda fresh: LIE)
    found = by_name(host.virtualisation())

    assert found["/dev/kvm"].state is State.OK
    booted = found["KVM kernel boot"]
    assert booted.state is State.NOTE
    assert "/dev/kvm opens but no kernel runs under it" in booted.found
    assert "emulation" in booted.hint
    assert "software emulation" in found["VMs run with"].found


def test_kvm_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "examine", lambda fresh: GOOD)
    found = host.virtualisation()

    assert {f.state for f in found} == {State.OK}
    assert by_name(found)["VMs run with"].found == "KVM, CPU model host"


def test_programs_that_are_missing_name_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = by_name(host.programs())["programs"]

    assert missing.state is State.PROBLEM
    assert "systemd-nspawn (driver nspawn)" in missing.found
    assert missing.hint.startswith("apt-get install")
    assert "systemd-container" in missing.hint


def test_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.memory, "available", lambda: 2**30)
    memory = by_name(host.system())["memory"]

    assert (memory.state, memory.found) == (State.PROBLEM, "1 GiB free")
    assert "labctl down" in memory.hint


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_facilities_are_tried_where_nothing_stays() -> None:
    before = sorted(p.name for p in Path("/sys/class/net").iterdir())
    found = host.facilities(
        (
            Facility("there", "ip link add name dr0 type bridge && ip link add name v0 type veth", State.PROBLEM, ""),
            Facility("not there", "ip link add name dr0 type nothing", State.NOTE, "nobody misses it", "echo hint"),
        )
    )
    assert [(f.state, f.found) for f in found] == [(State.OK, "works"), (State.NOTE, "missing: nobody misses it")]
    assert found[1].hint == "echo hint"
    assert sorted(p.name for p in Path("/sys/class/net").iterdir()) == before


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_overlays_are_tried_where_labs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path))
    assert host.overlay()[0].state is State.OK
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setenv("LABCTL_HOME", "/proc/sys")
    assert host.overlay()[0].state is State.PROBLEM
    assert "is not writable" in host.overlay()[0].found


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    found = [Finding("cores", State.OK, "2"), Finding("device mapper", State.NOTE, "missing", "--driver libvirt")]
    monkeypatch.setattr(host, "examine", lambda fresh: found)
    monkeypatch.setattr(vagrant, "examine", list)
    return found


def test_doctor_lists_findings_and_next_steps(
    findings: list[Finding], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out = labctl(capsys, monkeypatch, "doctor")
    assert status == 0
    assert "device mapper: --driver libvirt" in out

    status, out = labctl(capsys, monkeypatch, "doctor", "-o", "json")
    assert json.loads(out) == [vars(f) for f in findings]


def test_doctor_ends_with_1_when_something_does_not_work(
    findings: list[Finding], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings.append(Finding("overlay", State.PROBLEM, "not on /tmp", "set LABCTL_HOME"))
    status, out = labctl(capsys, monkeypatch, "doctor")

    assert status == 1
    assert "overlay: set LABCTL_HOME" in out
