"""Data that the plugin and its fixtures share through pytest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from labctl.records.access import Access

LAB: pytest.StashKey[Access] = pytest.StashKey()
BEGAN: pytest.StashKey[float] = pytest.StashKey()
#: True for a test whose setup, call or teardown has failed.
FAILED: pytest.StashKey[bool] = pytest.StashKey()


def artifacts(config: pytest.Config, lab: Access) -> Path:
    """The directory for failure captures and screenshots."""
    given = config.getoption("--lab-artifacts") or f"artifacts/{lab.lab}"
    return Path(config.invocation_params.dir, given)
