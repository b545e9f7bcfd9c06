"""Frozen layers of a lab on a cloud: an image of each server's root disk, a snapshot of each volume.

A layer has no disks of such machines, only what names those, which the cloud keeps: ``NODE/frozen.json``.
"""

from __future__ import annotations

from pydantic import Field

from labctl.drivers.openstack import leftovers
from labctl.drivers.openstack.cloud import Cloud
from labctl.drivers.openstack.servers import Servers
from labctl.errors import LabError
from labctl.host import files, state
from labctl.host.threads import on_each
from labctl.progress import step
from labctl.records.lab import Lab
from labctl.topology.model import Frozen

#: In a layer: what a machine was when it was frozen; what it has to be made of, once.
FROZEN, RESTORE = "frozen.json", "restore.json"


class Disks(Frozen):
    """What a machine's disks are made of: an image in Glance, and a snapshot for each additional disk.

    ``lab`` is the id of the lab that they belong to.
    """

    lab: str
    image: str
    volumes: dict[str, str] = Field(default_factory=dict)


def branch(cloud: Cloud, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
    """Freeze the machines as they are, if they are to go on; else note in a new layer what they are to be made of.

    :raises LabError: the layers are another lab's, or the cloud refused an image.
    """
    below = lab.layer(stack[0])
    hint = f"labctl snapshot list {lab.name}"
    records = {path.parent.name: state.read(path, Disks, hint) for path in below.glob(f"*/{FROZEN}")}
    if any(record.lab != lab.id for record in records.values()):
        raise LabError("servers of a cloud cannot be cloned: their images are in the cloud", lab.up("NAME"))
    if stack == lab.stack:
        for path in below.glob(f"*/{FROZEN}"):  # of a snapshot that was cut off
            files.erase(path)
        tidy(cloud, lab)
        on_each(lambda node: _freeze(cloud, lab, node, stack[0]), lab.spec.nodes)
        return
    tidy(cloud, lab)
    for node, record in records.items():
        place = lab.layer(layer) / node
        files.make_directories(place)
        files.write_atomic(place / RESTORE, record.model_dump_json())


def _freeze(cloud: Cloud, lab: Lab, node: str, layer: str) -> None:
    servers = Servers(cloud, lab)
    there = servers.find(node)
    if there is None:
        return
    with step(node, "image of its disks"):
        image = servers.freeze(node, there["id"], layer)
        disks = servers.volumes(node) if lab.spec.nodes[node].disks else {}
        volumes = {disk: servers.freeze_volume(node, disk, each["id"], layer) for disk, each in disks.items()}
    place = lab.layer(layer) / node
    files.make_directories(place)
    files.write_atomic(place / FROZEN, Disks(lab=lab.id, image=image, volumes=volumes).model_dump_json())


def tidy(cloud: Cloud, lab: Lab) -> list[str]:
    """Remove what the cloud keeps for layers that are gone, or of snapshots that were cut off; returns what is left."""
    layers = lab.directory / "layers"
    hint = f"labctl snapshot list {lab.name}"
    records = [state.read(path, Disks, hint) for name in (FROZEN, RESTORE) for path in layers.glob(f"*/*/{name}")]
    used = {kept for record in records for kept in (record.image, *record.volumes.values())}
    return leftovers.forget(cloud, lab.name, {path.name for path in layers.iterdir()}, used)
