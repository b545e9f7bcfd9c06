"""The driver ``libvirt``: virtual machines with kernels of their own, under KVM or software emulation."""

from labctl.drivers.libvirt.leftovers import remains, sweep
from labctl.drivers.libvirt.machine import Libvirt

__all__ = ["Libvirt", "remains", "sweep"]
