"""Golden images in Glance: each uploaded once per cloud, found again by its name in the store.

They stay when a lab goes; ``labctl gc --images`` removes those of this home that nothing uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.drivers.openstack.cloud import LAB, Cloud, Refusal, opened
from labctl.drivers.openstack.marks import KEY, read
from labctl.errors import BrokenLabError, LabError
from labctl.host import files, lock, paths, process, qcow2
from labctl.images import cloud as images
from labctl.progress import step
from labctl.records import clouds
from labctl.records.directory import exists

#: Property of an image: the golden image that it is, and the home that uploads it.
GOLDEN = "labctl_image"
#: Property of an image: how many bytes it has when all of it is there.
BYTES = "labctl_bytes"
#: Seconds for an image to become active after its last byte.
ACTIVE = 600.0


def ensure(cloud: Cloud, image: Path) -> str:
    """Upload a golden image unless the cloud has it in the format that it prefers; return its id in Glance.

    One that this home left unfinished is removed first; one that somebody else is uploading is not waited for.

    :raises LabError: the upload failed; says why.
    """
    with lock.exclusive(guard(image.name), f"uploads {image.name}"):
        query = {GOLDEN: image.name, "visibility": "private", "disk_format": cloud.image_format}
        for there in cloud.listed("image", "/v2/images", "images", query):
            if read(there) is not None:  # of a server's disk, which had the golden image's properties
                continue
            if _whole(there):
                return str(there["id"])
            if there.get(KEY) == clouds.home():
                cloud.delete("image", f"/v2/images/{there['id']}")
        clouds.keeps_images(cloud.name)
        work = directory() / image.name
        try:
            return _upload(cloud, image, work)
        finally:
            files.remove(work)


def _whole(there: Mapping[str, Any]) -> bool:
    """Whether all of an image was uploaded: Glance calls one active also where a connection ended early."""
    size = str(there.get("size"))
    return bool(there["status"] == "active" and size == there.get(BYTES, size))


def directory() -> Path:
    """Where disks are written in another format before they are uploaded, each in a directory of its image's name."""
    return paths.home() / "uploads"


def guard(name: str) -> Path:
    """The lock of a golden image's upload, and of its removal."""
    return paths.home() / "locks" / f"upload-{name}"


def _upload(cloud: Cloud, image: Path, work: Path) -> str:
    disk, kind = image / "tree" / images.DISK, cloud.image_format
    size = qcow2.read(disk).size
    if kind == "raw":
        files.make_directories(work)
        raw = work / "disk.raw"
        with step("cloud", f"write {image.name} as raw"):
            process.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw], timeout=1800)
        disk = raw
    facts = {
        "name": f"labctl-{image.name}",
        "disk_format": kind,
        "container_format": "bare",
        "min_disk": -(-size // 2**30),
        "visibility": "private",
        GOLDEN: image.name,
        KEY: clouds.home(),
        BYTES: str(disk.stat().st_size),
        # labctl shuts a server down itself; what nova is asked to stop then has nothing left to do
        "os_shutdown_timeout": "0",
    }
    path = f"/v2/images/{cloud.post('image', '/v2/images', facts)['id']}"
    try:
        with step("cloud", f"upload {image.name}, {disk.stat().st_size // 2**20} MiB"), disk.open("rb") as source:
            headers = {"Content-Type": "application/octet-stream"}
            cloud.request("image", "PUT", f"{path}/file", data=source, headers=headers)
            cloud.ready("image", path, "active", f"the image {image.name}", ACTIVE)
        made = cloud.get("image", path)
        if not _whole(made):
            raise BrokenLabError(
                f"the cloud {cloud.name} has {made['size']} bytes of {image.name}; {made[BYTES]} were sent",
                cloud.command(f"image show {made['id']}"),
            )
    except BaseException:
        with suppress(LabError):  # the next upload removes what stays
            cloud.delete("image", path)
        raise
    return str(made["id"])


@dataclass(frozen=True)
class Golden:
    """A golden image on a cloud: its id there, its name in the store, bytes."""

    id: str
    name: str
    size: int


def unused(place: str) -> list[Golden]:
    """The golden images that this home uploaded to a cloud and of which no server there is made.

    A cloud that was a lab and is gone took them along.

    :raises LabError: the cloud cannot be asked.
    """
    if place.startswith(LAB) and not exists(place.removeprefix(LAB)):
        clouds.keeps_none(place)
        return []
    cloud = opened(place)
    found = _golden(cloud)
    if not found:
        clouds.keeps_none(place)
        return []
    servers = cloud.listed("compute", "/servers/detail", "servers")
    used = {each["image"]["id"] for each in servers if each.get("image")}  # empty: it boots of a volume
    return [image for image in found if image.id not in used]


def remove(place: str, image: Golden) -> list[str]:
    """Remove a golden image; returns what is left, with the cloud's reason. The caller holds its :func:`guard`."""
    cloud = opened(place)
    try:
        cloud.delete("image", f"/v2/images/{image.id}")
    except Refusal as error:
        return [f"image {image.name} of the cloud {place}: {error.reason}"]
    if not _golden(cloud):
        clouds.keeps_none(place)
    return []


def _golden(cloud: Cloud) -> list[Golden]:
    query = {KEY: clouds.home(), "visibility": "private"}
    found = cloud.listed("image", "/v2/images", "images", query)
    return [Golden(str(each["id"]), str(each[GOLDEN]), int(each.get("size") or 0)) for each in found if GOLDEN in each]
