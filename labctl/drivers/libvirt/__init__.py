"""The driver ``libvirt``: virtual machines with kernels of their own, under KVM or software emulation."""

from labctl.drivers.libvirt.machine import Libvirt, remains, sweep

__all__ = ["Libvirt", "remains", "sweep"]
