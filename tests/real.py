"""What tests of real machines need: a driver that works here, and an image to make them of; else they are skipped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import pytest

from labctl.drivers.base import Driver
from labctl.errors import LabError
from labctl.host import process
from labctl.images import golden

STORE = Path("/var/lib/labctl/images")
D = TypeVar("D", bound=Driver)


def usable(driver: D) -> D:
    """The driver, if it can make machines here."""
    if os.geteuid() != 0:
        pytest.skip(f"machines of the driver {driver.name} need root")
    try:
        driver.probe()
    except LabError as error:
        pytest.skip(error.message)
    return driver


def golden_image() -> tuple[Path, ...]:
    """The layers of the golden image in the machine's own store, the uppermost first; built when it is not there.

    A bare machine runs these tests too, so it builds here what its first lab would build.
    """
    if process.missing("mmdebstrap"):
        pytest.skip("no golden image can be built without mmdebstrap")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_HOME", str(STORE.parent))
        return golden.ensure("debian12", "debian", "zed")
