"""What tests of operations and of programs have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in import SHIMS, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine", {**SHIMS, "dpkg-query": ":"})
