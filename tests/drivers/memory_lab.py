"""A lab on the cloud in memory: made, brought up, killed on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memory_cloud import MemoryCloud
from support import SMALL, specify, write

from labctl.drivers.openstack.machine import OpenStack
from labctl.errors import LabError
from labctl.host import paths
from labctl.records.lab import Lab

WITH_DISK = SMALL.replace("runs: [etcd]", "disks: {data: 1 GiB}\n    runs: [etcd]")
MIB, GIB = 2**20, 2**30


def image_of(home: Path, name: str) -> Path:
    """A golden image in a home's store, of which only the header is real."""
    image = home / "images" / name
    if not image.exists():
        (image / "tree").mkdir(parents=True)
        # QEMU's magic, version 3, and a size of 256 MiB at byte 24
        header = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (256 * MIB).to_bytes(8, "big") + bytes(72)
        (image / "tree/disk.qcow2").write_bytes(header)
    return image


def lab_of(directory: Path, name: str) -> Lab:
    """A lab of two nodes, one of them with a disk."""
    path = write(directory, WITH_DISK)
    lab = Lab.create(specify(path, name=name).model_copy(update={"driver": "openstack", "cloud": "memory"}), path)
    lab.ensure_keys()
    lab.record_image((image_of(paths.home(), "cloud-of-the-nodes"),))
    return lab


def up(lab: Lab) -> None:
    """Make its network and its nodes."""
    driver = OpenStack("memory")
    driver.create_network(lab)
    for node in lab.spec.nodes:
        driver.create(lab, node)
        driver.start(lab, node)


def killed(cloud: MemoryCloud, number: int, work: Callable[[], object]) -> bool:
    """Do some work, and kill it at its request of that number; False if it ended before."""
    cloud.requests.clear()
    cloud.killed_at = number
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        cloud.killed_at = 0
    return False


def stand_on(lab: Lab, *below: str) -> None:
    """Bring the machines to rest, and on again with a new layer over these, or over all there are."""
    driver = OpenStack("memory")
    driver.rest(lab, 0)
    stack, number = below or lab.stack, lab.new_layer()
    lab.layer(number).mkdir()
    driver.branch(lab, stack, number)
    lab.meta["stack"] = [number, *stack]
    up(lab)


def refuse(*_: object) -> None:
    raise LabError("no machine answers here")
