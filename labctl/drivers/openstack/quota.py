"""What a lab needs of a project, and what the project may still have: asked before anything is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from labctl.drivers.openstack.cloud import Cloud
from labctl.drivers.openstack.ports import filtered
from labctl.errors import LabError
from labctl.records.lab import Lab

MIB, GIB = 2**20, 2**30
#: The gateway server: virtual CPUs, bytes of memory and of disk.
GATEWAY = (1, 256 * MIB, GIB)


def needed(lab: Lab, *, filtered: bool = False) -> Counter[str]:
    """What a lab takes: numbers of things, MiB of memory, GiB of volumes.

    :param filtered: on a cloud that filters the packets of all ports.
    """
    nodes, segments = lab.spec.nodes.values(), lab.spec.segments
    disks = [disk for node in nodes for disk in node.disks]
    cards = [card for node in nodes for card in node.interfaces]
    return Counter(
        {
            "servers": len(nodes) + 1,
            "virtual CPUs": sum(node.cpus for node in nodes) + GATEWAY[0],
            "MiB of memory": (sum(node.memory for node in nodes) + GATEWAY[1]) // MIB,
            "volumes": len(disks),
            "GiB of volumes": sum(-(-disk.size // GIB) for disk in disks),
            "networks": len(segments) + 1,
            "subnets": 2 * len(segments) + 1,
            "ports": len(cards) + len(segments) + 1,
            "routers": 1,
            "floating IPs": 1,
            "security groups": 2 if filtered else 1,
        }
    )


def check(cloud: Cloud, lab: Lab) -> None:
    """Compare what a new lab needs with what the project may still have.

    :raises LabError: something is not enough; names each with both numbers.
    """
    wanted = needed(lab, filtered=bool(filtered(cloud)))
    room = left(cloud, volumes=any(node.disks for node in lab.spec.nodes.values()))
    short = [
        f"{number} {what}; the project may have {max(room[what], 0)} more"
        for what, number in wanted.items()
        if what in room and number > room[what]
    ]
    if short:
        raise LabError(f"{lab.name} needs {'; and '.join(short)}", cloud.command("quota show --usage"))


def left(cloud: Cloud, *, volumes: bool) -> dict[str, int]:
    """What the project may still have; what has no limit is left out."""
    room = dict(_limits(cloud, "compute", _COMPUTE))
    if volumes:
        room |= _limits(cloud, "block-storage", _VOLUMES)
    details = cloud.get("network", f"/v2.0/quotas/{cloud.project}/details")["quota"]
    for key, what in _NETWORK.items():
        limit = details.get(key)
        if limit and limit["limit"] >= 0:
            room[what] = limit["limit"] - limit["used"] - limit["reserved"]
    return room


_COMPUTE = {
    "servers": ("maxTotalInstances", "totalInstancesUsed"),
    "virtual CPUs": ("maxTotalCores", "totalCoresUsed"),
    "MiB of memory": ("maxTotalRAMSize", "totalRAMUsed"),
}
_VOLUMES = {
    "volumes": ("maxTotalVolumes", "totalVolumesUsed"),
    "GiB of volumes": ("maxTotalVolumeGigabytes", "totalGigabytesUsed"),
}
_NETWORK = {
    "network": "networks",
    "subnet": "subnets",
    "port": "ports",
    "router": "routers",
    "floatingip": "floating IPs",
    "security_group": "security groups",
}


def _limits(cloud: Cloud, service: str, names: Mapping[str, tuple[str, str]]) -> dict[str, int]:
    absolute: dict[str, Any] = cloud.get(service, "/limits")["limits"]["absolute"]
    return {what: absolute[most] - absolute[used] for what, (most, used) in names.items() if absolute[most] >= 0}
