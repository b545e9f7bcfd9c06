"""Starts of Vagrant's machines that were broken off."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SMALL, specify, write

from labctl.drivers.base import Machine
from labctl.drivers.vagrant.machine import STARTED, STARTING, VagrantMachines
from labctl.records.lab import Lab


class Recorder:
    """Stands for Vagrant; an ``up`` that is to break off raises."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = False

    def up(self, node: str, *_: object, provision: bool | None) -> None:
        self.calls.append(f"up {node} {provision}")
        if self.broken:
            raise KeyboardInterrupt

    def destroy(self, node: str, _: float) -> None:
        self.calls.append(f"destroy {node}")


def test_only_a_first_start_that_was_broken_off_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that Vagrant gave a machine is on its disk for sure once its first start has ended."""
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "home"))
    path = write(tmp_path, SMALL)
    lab = Lab.create(specify(path), path)
    own = lab.node_directory("first")
    own.mkdir(parents=True)
    driver, vagrant = VagrantMachines(), Recorder()
    monkeypatch.setattr(driver, "_vagrant", lambda _: vagrant)
    monkeypatch.setattr(driver, "_seconds", round)
    monkeypatch.setattr(driver, "machine", lambda *_: Machine("first", True, False))

    def start(*, broken: bool) -> list[str]:
        vagrant.calls, vagrant.broken = [], broken
        if broken:
            with pytest.raises(KeyboardInterrupt):
                driver.start(lab, "first")
        else:
            driver.start(lab, "first")
        return vagrant.calls

    assert start(broken=True) == ["up first None"]
    assert start(broken=True) == ["destroy first", "up first True"]
    assert start(broken=False) == ["destroy first", "up first True"]
    assert ((own / STARTING).exists(), (own / STARTED).exists()) == (False, True)
    assert start(broken=True) == ["up first None"]
    assert start(broken=False) == ["up first True"]
