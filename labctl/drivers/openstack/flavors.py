"""Flavors by a topology's numbers: one that is exactly so, else one made for the lab, else the smallest enough."""

from __future__ import annotations

from typing import Any

from labctl.drivers.openstack.cloud import Cloud, Refusal
from labctl.drivers.openstack.marks import of
from labctl.errors import LabError
from labctl.records.lab import Lab
from labctl.topology.units import show_size

MIB, GIB = 2**20, 2**30


def flavor(cloud: Cloud, lab: Lab, cpus: int, memory: int, disk: int) -> str:
    """The id of a flavor with that many virtual CPUs, bytes of memory and of root disk.

    :raises LabError: there is none that is enough, and this project may not make one.
    """
    wanted = (cpus, -(-memory // MIB), -(-disk // GIB))
    if exact := _exact(cloud, wanted):
        return exact
    enough = [found for size, found in _known(cloud) if all(a >= b for a, b in zip(size, wanted, strict=True))]
    return _made(cloud, lab, wanted) or next(iter(enough), "") or _none(cloud, *wanted)


def _known(cloud: Cloud) -> list[tuple[tuple[int, int, int], str]]:
    """The flavors that may be used, each by its size, the smallest first."""
    found = cloud.get("compute", "/flavors/detail")["flavors"]
    return sorted((_size(each), str(each["id"])) for each in found if not each.get("OS-FLV-DISABLED:disabled"))


def _exact(cloud: Cloud, wanted: tuple[int, int, int]) -> str:
    return next((found for size, found in _known(cloud) if size == wanted), "")


def _size(found: dict[str, Any]) -> tuple[int, int, int]:
    return int(found["vcpus"]), int(found["ram"]), int(found["disk"])


def _made(cloud: Cloud, lab: Lab, size: tuple[int, int, int]) -> str:
    """A flavor of the lab's own; empty where the project may make none. Removed with the lab."""
    cpus, memory, disk = size
    about = {
        "name": f"labctl.{lab.name}.{lab.id}.c{cpus}-m{memory}-d{disk}",
        "vcpus": cpus,
        "ram": memory,
        "disk": disk,
        "description": of(lab, "flavor"),
    }
    try:
        return str(cloud.post("compute", "/flavors", {"flavor": about})["flavor"]["id"])
    except Refusal as error:
        if error.status == 409:  # another node of the same size has just made it
            return _exact(cloud, size)
        if error.status != 403:
            raise
        return ""


def _none(cloud: Cloud, cpus: int, memory: int, disk: int) -> str:
    raise LabError(
        f"the cloud {cloud.name} has no flavor with {cpus} virtual CPUs, {show_size(memory * MIB)} of memory and "
        f"{show_size(disk * GIB)} of disk, and this project may not make one",
        cloud.command("flavor list"),
    )
