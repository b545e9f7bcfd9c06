"""A lab of two nodes for tests of drivers without machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SMALL, specify, write

from labctl.records.lab import Lab


@pytest.fixture
def lab(tmp_path: Path, home: Path) -> Lab:
    path = write(tmp_path, SMALL.replace("runs: [etcd]", "disks: {data: 1 GiB}\n    runs: [etcd]"))
    state = Lab.create(specify(path, name="mine"), path)
    state.ensure_keys()
    return state
