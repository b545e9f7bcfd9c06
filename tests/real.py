"""What tests of real machines need: a driver that works here, and an image to make them of; else they are skipped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import pytest

from labctl.drivers.base import Driver
from labctl.errors import LabError
from labctl.images import store

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
    """The layers of an image that the machine's store has, the uppermost first; never ones made for a test."""
    tops = [p for p in sorted(STORE.glob("debian12-debian-*")) if (p / "manifest.json").exists()]
    for top in reversed(tops):
        layers = (top, *(STORE / name for name in store.manifest_of(top).get("below", ())))
        if len(layers) > 1 and all((layer / "manifest.json").exists() for layer in layers):
            return layers
    pytest.skip(f"no golden image in {STORE}; labctl up zed-2node makes one")
