"""What tests of nights share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nights import Bench


@pytest.fixture
def bench(tmp_path: Path, home: Path) -> Iterator[Bench]:
    """A folder for nights without machines, with a labctl home of its own."""
    made = Bench(tmp_path)
    yield made
    made.history.close()
