"""The drivers, by name."""

from labctl.drivers.base import Capabilities, Driver, Machine
from labctl.drivers.libvirt import Libvirt
from labctl.drivers.nspawn import Nspawn
from labctl.drivers.vagrant import VagrantMachines
from labctl.errors import LabError

DRIVERS: dict[str, Driver] = {"nspawn": Nspawn(), "libvirt": Libvirt(), "vagrant": VagrantMachines()}


def get(name: str) -> Driver:
    """Return a driver.

    :raises LabError: when labctl has none of that name.
    """
    if name not in DRIVERS:
        raise LabError(f"labctl has no driver '{name}'; it has {', '.join(DRIVERS)}")
    return DRIVERS[name]


__all__ = ["DRIVERS", "Capabilities", "Driver", "Machine", "get"]
