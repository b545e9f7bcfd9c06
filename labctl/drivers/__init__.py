"""The table of drivers; to add one, add a folder or a file, and one line here.

The table has what the topology rules need to know; a driver itself is imported when a lab first needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from labctl.errors import LabError

if TYPE_CHECKING:
    from labctl.drivers.base import Driver


@dataclass(frozen=True)
class Entry:
    """Where a driver is, and what topologies must know about it."""

    #: module and class
    place: str
    #: its machines boot their own kernel, so any base and device mapper are possible
    own_kernel: bool
    #: its machines are created from boxes, which labctl does not build for every base
    boxes: bool = False
    #: its machines are on a cloud, which a lab's user names
    clouds: bool = False
    #: it gives machines several cards for one network, which they bond
    bonds: bool = False
    #: ranges that its machines' other cards have, and whose they are
    taken: Mapping[IPv4Network, str] = field(default_factory=dict)


#: vagrant-libvirt's management network.
VAGRANT_ADDRESS = "192.168.121.0/24"
_VAGRANT = {
    IPv4Network("10.0.2.0/24"): "VirtualBox's NAT, by which Vagrant reaches a machine",
    IPv4Network(VAGRANT_ADDRESS): "vagrant-libvirt's management network",
}

DRIVERS: Mapping[str, Entry] = {
    "nspawn": Entry("labctl.drivers.nspawn:Nspawn", own_kernel=False),
    "libvirt": Entry("labctl.drivers.libvirt.machine:Libvirt", own_kernel=True, bonds=True),
    "vagrant": Entry("labctl.drivers.vagrant.machine:VagrantMachines", own_kernel=True, boxes=True, taken=_VAGRANT),
    "openstack": Entry("labctl.drivers.openstack.machine:OpenStack", own_kernel=True, clouds=True),
}
#: Drivers loaded so far, with a colon and the cloud where a driver needs one.
LOADED: dict[str, Driver] = {}


def get(name: str, cloud: str = "") -> Driver:
    """Return a driver.

    :param cloud: the cloud that its machines are on, for a driver that needs one.
    :raises LabError: labctl has no driver of that name.
    """
    key = f"{name}:{cloud}" if cloud else name
    if key not in LOADED:
        if name not in DRIVERS:
            raise LabError(f"labctl has no driver '{name}'; it has {', '.join(DRIVERS)}")
        module, _, kind = DRIVERS[name].place.partition(":")
        LOADED[key] = getattr(import_module(module), kind)(*((cloud,) if cloud else ()))
    return LOADED[key]


def every() -> list[Driver]:
    """All drivers, for callers that know only a lab's name."""
    return [get(name) for name in DRIVERS]
