"""A lab of two nodes for tests of drivers without machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SMALL, specify, write

from labctl.lab.state import LabState


@pytest.fixture
def lab(tmp_path: Path, home: Path) -> LabState:
    path = write(tmp_path, SMALL.replace("runs: [etcd]", "disks: {data: 1 GiB}\n    runs: [etcd]"))
    state = LabState.create(specify(path, name="mine"), path)
    state.ensure_keys()
    return state
