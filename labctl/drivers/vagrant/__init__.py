"""The driver ``vagrant``: a lab's machines made by Vagrant, as somebody who knows nothing else would make them."""

from labctl.drivers.vagrant.machine import VagrantMachines, remains, sweep

__all__ = ["VagrantMachines", "remains", "sweep"]
