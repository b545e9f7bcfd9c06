"""What carries a lab's mark on its cloud, and its removal: by the mark alone, in an order that the APIs accept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from labctl.drivers.openstack import marks
from labctl.drivers.openstack.cloud import LAB, Cloud, Refusal, opened
from labctl.drivers.openstack.servers import wait_gone
from labctl.errors import LabError
from labctl.records import clouds
from labctl.records.lab import exists


@dataclass(frozen=True)
class Thing:
    """Something of a lab on a cloud: its kind, id and name."""

    service: str
    kind: str
    id: str
    name: str
    #: the layer whose content it keeps
    layer: str = ""

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
                name = there.get("name") or there.get("floating_ip_address") or ""
                layer = there.get(marks.LAYER) or (there.get("metadata") or {}).get(marks.LAYER) or ""
                yield Thing(service, key, str(there["id"]), str(name), str(layer))


def remove(cloud: Cloud, lab: str, part: str | None = None, *, keep_frozen: bool = False) -> list[str]:
    """Remove all that; returns what is left, each with the cloud's reason.

    :param keep_frozen: not what snapshots of the lab need.
    """
    left: list[str] = []
    servers: list[Thing] = []
    for thing in [each for each in things(cloud, lab, part) if not (keep_frozen and each.layer)]:
        if servers and thing.kind != "servers":
            left += _gone(cloud, servers)
            servers = []
        try:
            discard(cloud, thing)
        except Refusal as error:
            left.append(f"{thing}: {error.reason}")
        else:
            servers += [thing] if thing.kind == "servers" else []
    return left + _gone(cloud, servers)


def discard(cloud: Cloud, thing: Thing) -> None:
    """Ask the cloud to remove one thing."""
    _prepare(cloud, thing)
    cloud.delete(thing.service, f"{_PATHS[(thing.service, thing.kind)]}/{thing.id}")


def _gone(cloud: Cloud, servers: list[Thing]) -> list[str]:
    """Wait until servers are gone: their ports and volumes cannot go before."""
    return [f"{each}: {why}" for each in servers if (why := wait_gone(cloud, each.id))]


def _prepare(cloud: Cloud, thing: Thing) -> None:
    """Undo what keeps something from being removed, or wait for its end."""
    if thing.kind == "volumes":
        deadline = time.monotonic() + DETACH
        while _status(cloud, thing) in ("in-use", "detaching") and time.monotonic() < deadline:
            time.sleep(0.5)
    if thing.kind == "routers":
        ports = cloud.get("network", "/v2.0/ports", {"device_id": thing.id})["ports"]
        subnets = {ip["subnet_id"] for p in ports if "router_interface" in p["device_owner"] for ip in p["fixed_ips"]}
        for subnet in subnets:
            with suppress(Refusal):  # another labctl removed it just now
                cloud.put("network", f"/v2.0/routers/{thing.id}/remove_router_interface", {"subnet_id": subnet})


def _status(cloud: Cloud, volume: Thing) -> str:
    try:
        return str(cloud.get(volume.service, f"/volumes/{volume.id}")["volume"]["status"])
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
