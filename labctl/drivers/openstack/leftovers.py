"""What carries a lab's mark on its cloud, and its removal: by the mark alone, in an order that the APIs accept."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

from labctl.drivers.openstack import marks
from labctl.drivers.openstack.cloud import LAB, Cloud, Refusal, opened
from labctl.drivers.openstack.servers import wait_gone
from labctl.errors import LabError
from labctl.records import clouds
from labctl.records.directory import exists


@dataclass(frozen=True)
class Thing:
    """Something of a lab on a cloud: its kind, id and name."""

    service: str
    kind: str
    id: str
    name: str
    status: str = ""
    #: the layer whose content it keeps
    layer: str = ""
    #: of a snapshot: its volume
    volume: str = ""
    #: a volume that only its snapshots keep
    retired: bool = False

    @property
    def path(self) -> str:
        """Where it is in its service."""
        return f"{_PATHS[(self.service, self.kind)]}/{self.id}"

    def __str__(self) -> str:
        return f"{self.kind.rstrip('s')} {self.name or self.id}"


#: Kinds in the order of their removal: service, path of the list, key of the answer, path of one.
_KINDS = (
    ("compute", "/servers/detail", "servers"),
    ("block-storage", "/snapshots/detail", "snapshots"),
    ("block-storage", "/volumes/detail", "volumes"),
    ("image", "/v2/images", "images"),
    ("network", "/v2.0/floatingips", "floatingips"),
    ("network", "/v2.0/routers", "routers"),
    ("network", "/v2.0/ports", "ports"),
    ("network", "/v2.0/networks", "networks"),
    ("network", "/v2.0/security-groups", "security_groups"),
    ("compute", "/os-server-groups", "server_groups"),
    ("compute", "/flavors/detail", "flavors"),
)
#: Seconds for a volume to be free once its server is gone.
DETACH = 60.0
#: What is gone only some time after it was asked to go, and keeps what comes after it from going.
_SLOW = ("servers", "snapshots", "volumes")
_PATHS = {(service, key): path.removesuffix("/detail") for service, path, key in _KINDS}


def things(cloud: Cloud, lab: str, part: str | None = None) -> Iterator[Thing]:
    """Everything of a lab of this home on a cloud, or of one part of it, in the order of removal.

    :raises LabError: the cloud cannot be asked.
    """
    for service, path, key in _KINDS:
        if service == "block-storage" and not cloud.has(service):
            continue
        for there in cloud.listed(service, path, key):
            if marks.mine(there, lab, part) or (part is None and there.get("name") == marks.group(lab)):
                metadata = there.get("metadata") or {}
                yield Thing(
                    service,
                    key,
                    str(there["id"]),
                    str(there.get("name") or there.get("floating_ip_address") or ""),
                    status=str(there.get("status") or ""),
                    layer=str(there.get(marks.LAYER) or metadata.get(marks.LAYER) or ""),
                    volume=str(there.get("volume_id") or ""),
                    retired=marks.RETIRED in metadata,
                )


def remove(cloud: Cloud, lab: str, part: str | None = None, *, keep_frozen: bool = False) -> list[str]:
    """Remove all that; returns what is left, each with the cloud's reason.

    :param keep_frozen: not what snapshots of the lab need: volumes that have snapshots are only taken out of use, as a
        cloud refuses to delete them.
    """
    found = list(things(cloud, lab, part))
    kept = [each for each in found if keep_frozen and each.layer]
    retired = _volumes(kept)
    for volume in found:
        if volume.id in retired and not volume.retired:
            _free(cloud, volume)
            cloud.put(volume.service, volume.path, {"volume": {"metadata": {marks.RETIRED: "yes"}}})
    return purge(cloud, [each for each in found if each not in kept and each.id not in retired])


def purge(cloud: Cloud, found: list[Thing]) -> list[str]:
    """Remove things, which are in the order of removal; returns what is left, each with the cloud's reason."""
    left: list[str] = []
    for kind, group in groupby(found, key=lambda thing: thing.kind):
        asked = []
        for thing in group:
            try:
                _discard(cloud, thing)
                asked.append(thing)
            except Refusal as error:
                left.append(f"{thing}: {error.reason}")
        if kind in _SLOW:
            left += [f"{each}: {why}" for each in asked if (why := wait_gone(cloud, each.service, each.path))]
    return left


def forget(cloud: Cloud, lab: str, layers: Collection[str], used: Collection[str]) -> list[str]:
    """Remove images and snapshots of layers that are gone, or that no layer's record names, and volumes kept for them.

    :param layers: those that there are.
    :param used: ids of the images and snapshots that their records name.
    :returns: what is left, each with the cloud's reason.
    """
    found = list(things(cloud, lab))
    stale = [each for each in found if each.layer and (each.layer not in layers or each.id not in used)]
    needed = _volumes(each for each in found if each not in stale)
    return purge(cloud, [each for each in found if each in stale or (each.retired and each.id not in needed)])


def _volumes(snapshots: Iterable[Thing]) -> set[str]:
    return {each.volume for each in snapshots if each.kind == "snapshots"}


def _discard(cloud: Cloud, thing: Thing) -> None:
    """Ask the cloud to remove one thing."""
    _prepare(cloud, thing)
    if thing.status != "deleting":
        cloud.delete(thing.service, thing.path)


def _prepare(cloud: Cloud, thing: Thing) -> None:
    """Undo what keeps something from being removed, or wait for its end."""
    if thing.kind == "volumes":
        _free(cloud, thing)
    if thing.kind == "routers":
        ports = cloud.get("network", "/v2.0/ports", {"device_id": thing.id})["ports"]
        subnets = {ip["subnet_id"] for p in ports if "router_interface" in p["device_owner"] for ip in p["fixed_ips"]}
        for subnet in subnets:
            with suppress(Refusal):  # another labctl removed it just now
                cloud.put("network", f"/v2.0/routers/{thing.id}/remove_router_interface", {"subnet_id": subnet})


def _free(cloud: Cloud, volume: Thing) -> None:
    """Wait until a volume is free of its server, which is gone."""
    deadline = time.monotonic() + DETACH
    while _status(cloud, volume) in ("in-use", "detaching") and time.monotonic() < deadline:
        time.sleep(0.5)


def _status(cloud: Cloud, volume: Thing) -> str:
    try:
        return str(cloud.get(volume.service, volume.path)["volume"]["status"])
    except Refusal as error:
        if error.status == 404:
            return "deleted"
        raise


def _cloud_of(name: str) -> Cloud | None:
    """The cloud that a lab may have something on; a cloud that was a lab and is gone took everything along."""
    known = clouds.known().get(name)
    if known is None:
        return None
    if known.startswith(LAB) and not exists(known.removeprefix(LAB)):
        clouds.forget(name)
        return None
    return opened(known)


def remains(name: str) -> list[str]:
    """What a lab has on its cloud; a cloud that cannot be asked is named with the reason."""
    cloud = _cloud_of(name)
    if cloud is None:
        return []
    try:
        found = [f"{thing} of the cloud {cloud.name}" for thing in things(cloud, name)]
    except LabError as error:
        return [f"what it has on the cloud {cloud.name}: {error.message}"]
    if not found and not exists(name):
        clouds.forget(name)
    return found


def sweep(name: str, part: str | None = None, *, keep_frozen: bool = False) -> list[str]:
    """Remove what a lab, or a part of it, has on its cloud; returns what is left, also a cloud that cannot be asked.

    :param keep_frozen: not what snapshots of the lab need.
    """
    cloud = _cloud_of(name)
    if cloud is None:
        return []
    try:
        left = remove(cloud, name, part, keep_frozen=keep_frozen)
    except LabError as error:
        return [f"what it has on the cloud {cloud.name}: {error.message}"]
    return left or ([] if part else remains(name))


def frozen(cloud: Cloud, lab: str) -> list[Thing]:
    """Images and snapshots that keep what a lab's machines were when a layer was frozen."""
    return [thing for thing in things(cloud, lab) if thing.layer]
