"""Machines that are so many times slower get deadlines that are so many times longer, everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.drivers.libvirt.domain import Accelerator
from labctl.drivers.libvirt.machine import Libvirt
from labctl.drivers.nspawn import Nspawn
from labctl.errors import DeadlineError
from labctl.host import process
from labctl.operations.node import Wait
from labctl.operations.script import program
from labctl.testing import waits


@pytest.fixture
def slow_lab() -> Iterator[None]:
    waits.be_patient(20)
    yield
    waits.be_patient(1)


def test_waits_of_the_suites_are_as_patient_as_the_lab_is_slow(slow_lab: None) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError, match="x: timed out after 1 s"):
        waits.wait_for("x", lambda: 0, lambda _: False, deadline=0.05, interval=0.05)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(("patience", "seconds"), [("", 1), ("3", 3)])
def test_waits_of_a_program_are_as_patient_as_its_node_is_slow(tmp_path: Path, patience: str, seconds: int) -> None:
    path = tmp_path / "program.sh"
    path.write_text(program("test", (Wait("never", "false", (), 1),)))
    began = time.monotonic()
    done = process.run(["env", f"LABCTL_PATIENCE={patience}", "sh", path], check=False)
    assert f"not so after {seconds} s: false" in done.stdout
    assert time.monotonic() - began >= seconds - 1


def test_emulated_machines_are_slower_and_others_are_not() -> None:
    def libvirt(kind: str) -> Libvirt:
        driver = Libvirt()
        driver.__dict__["accelerator"] = Accelerator(kind, "any")
        return driver

    assert Nspawn().patience == libvirt("kvm").patience == 1
    assert libvirt("qemu").patience >= 10
