"""What tests of real machines need: labctl as a user runs it, a driver that works here, and an image for machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import pytest

from labctl.drivers.base import Driver
from labctl.errors import LabError
from labctl.host import process
from labctl.images import golden

STORE = Path("/var/lib/labctl/images")
D = TypeVar("D", bound=Driver)


def run_labctl(*words: str, timeout: float = 600, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run labctl as a user would; the output of a failure is shown in full."""
    done = process.run([sys.executable, "-m", "labctl", *words], timeout=timeout, check=False)
    print(done.stdout, done.stderr, sep="\n")
    said = f"labctl {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0 or not check, said
    return done


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
