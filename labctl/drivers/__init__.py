"""The drivers, by name: adding one is a folder or a file, and one line here.

What is said here is what a topology's rules need to know; a driver itself is imported when a lab first needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from labctl.errors import LabError

if TYPE_CHECKING:
    from labctl.drivers.base import Driver


@dataclass(frozen=True)
class Entry:
    """Where a driver is, and what topologies must know of it."""

    #: module and class
    place: str
    #: its machines boot kernels of their own, so they can have any base and device mapper
    own_kernel: bool
    #: its machines are made of boxes, which labctl does not make of every base
    boxes: bool = False


DRIVERS: Mapping[str, Entry] = {
    "nspawn": Entry("labctl.drivers.nspawn:Nspawn", own_kernel=False),
    "libvirt": Entry("labctl.drivers.libvirt.machine:Libvirt", own_kernel=True),
    "vagrant": Entry("labctl.drivers.vagrant.machine:VagrantMachines", own_kernel=True, boxes=True),
}
#: The drivers that were needed so far.
LOADED: dict[str, Driver] = {}


def get(name: str) -> Driver:
    """Return a driver.

    :raises LabError: when labctl has none of that name.
    """
    if name not in LOADED:
        if name not in DRIVERS:
            raise LabError(f"labctl has no driver '{name}'; it has {', '.join(DRIVERS)}")
        module, _, kind = DRIVERS[name].place.partition(":")
        LOADED[name] = getattr(import_module(module), kind)()
    return LOADED[name]


def every() -> list[Driver]:
    """All drivers, for what must look at each: a lab of which nothing but its name is known."""
    return [get(name) for name in DRIVERS]
