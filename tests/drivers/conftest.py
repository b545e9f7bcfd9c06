"""Labs of two nodes for tests of drivers without machines, and a cloud in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_cloud import MemoryCloud
from memory_lab import WITH_DISK, image_of, lab_of
from support import specify, write

from labctl.drivers.openstack import cloud as clouds_module
from labctl.drivers.openstack import leftovers, machine, tunnel, uploads
from labctl.images import gateway
from labctl.records.lab import Lab


@pytest.fixture
def lab(tmp_path: Path, home: Path) -> Lab:
    path = write(tmp_path, WITH_DISK)
    state = Lab.create(specify(path, name="mine"), path)
    state.ensure_keys()
    return state


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, home: Path) -> MemoryCloud:
    made = MemoryCloud()
    clouds_module.opened.cache_clear()
    for module in (machine, leftovers, uploads):
        monkeypatch.setattr(module, "opened", lambda name: made)
    # what needs root, a gateway that answers, and images of hundreds of megabytes
    monkeypatch.setattr(machine.network, "create", lambda spec: None)
    monkeypatch.setattr(machine.network, "pin", lambda spec: None)
    monkeypatch.setattr(machine.network, "delete", lambda name: [])
    monkeypatch.setattr(tunnel, "broken", lambda lab: "not there yet")
    monkeypatch.setattr(tunnel, "ensure", lambda lab, cloud, address: None)
    monkeypatch.setattr(tunnel, "close", lambda name: [])
    monkeypatch.setattr(gateway, "ensure", lambda: image_of(home, "cloud-of-the-gateway"))
    return made


@pytest.fixture
def lab_on_cloud(tmp_path: Path, cloud: MemoryCloud) -> Lab:
    return lab_of(tmp_path, "mine")
