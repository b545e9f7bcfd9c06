"""The lab that tests of rules break."""

from __future__ import annotations

import pytest
from full import Lab, full


@pytest.fixture
def lab() -> Lab:
    """A lab of every component, with nothing wrong."""
    return full()
