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
    there = cloud.get("compute", "/flavors/detail")["flavors"]
    by_size = sorted((_size(each), str(each["id"])) for each in there if not each.get("OS-FLV-DISABLED:disabled"))
    exact = next((found for size, found in by_size if size == wanted), None)
    if exact:
        return exact
    enough = next((found for size, found in by_size if all(a >= b for a, b in zip(size, wanted, strict=True))), None)
    return _made(cloud, lab, wanted) or enough or _none(cloud, *wanted)


def _size(found: dict[str, Any]) -> tuple[int, int, int]:
    return int(found["vcpus"]), int(found["ram"]), int(found["disk"])


def _made(cloud: Cloud, lab: Lab, size: tuple[int, int, int]) -> str | None:
    """A flavor of the lab's own; None where the project may make none. Removed with the lab."""
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
        if error.status != 403:
            raise
        return None


def _none(cloud: Cloud, cpus: int, memory: int, disk: int) -> str:
    raise LabError(
        f"the cloud {cloud.name} has no flavor with {cpus} virtual CPUs, {show_size(memory * MIB)} of memory and "
        f"{show_size(disk * GIB)} of disk, and this project may not make one",
        cloud.command("flavor list"),
    )
