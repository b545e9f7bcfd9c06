"""A lab's servers and their volumes: made, started, stopped, frozen and removed through the APIs."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Any

from labctl.drivers.openstack import marks
from labctl.drivers.openstack.cloud import Cloud, Refusal
from labctl.drivers.openstack.marks import DISK, KEY, LAYER
from labctl.errors import DeadlineError, LabError
from labctl.records.lab import Lab

#: Seconds for a server to be built, for a change of its power state, for an image or a snapshot of its disk.
BUILD, POWER, FREEZE = 900.0, 180.0, 1800.0
GIB = 2**30


class Servers:
    """The servers of one lab, by their part: a node, or the gateway."""

    def __init__(self, cloud: Cloud, lab: Lab) -> None:
        self._cloud, self._lab = cloud, lab

    def name(self, part: str) -> str:
        """A server's name."""
        return f"{self._lab.name}.{part.lstrip('_')}"

    def find(self, part: str) -> dict[str, Any] | None:
        """A part's server, None where there is none."""
        query = {"name": f"^{re.escape(self.name(part))}$"}
        mark = marks.of(self._lab, part)
        for there in self._cloud.get("compute", "/servers/detail", query)["servers"]:
            if there["metadata"].get(KEY) == mark and there["status"] not in ("DELETED", "SOFT_DELETED"):
                found: dict[str, Any] = there
                return found
        return None

    def make(
        self,
        part: str,
        *,
        image: str,
        flavor: str,
        ports: list[str],
        user_data: bytes,
        volumes: Mapping[str, str],
        group: str = "",
    ) -> None:
        """Make a server, which starts, and wait until it runs.

        :param volumes: id of each additional disk, by its name.
        :param group: a server group for the scheduler.
        :raises LabError: the cloud could not build it; says why in the cloud's words.
        """
        disks = [{"boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "local"}]
        disks[0]["delete_on_termination"] = True
        for volume in volumes.values():
            disks.append({"boot_index": -1, "uuid": volume, "source_type": "volume", "destination_type": "volume"})
        body: dict[str, Any] = {
            "server": {
                "name": self.name(part),
                "imageRef": image,
                "flavorRef": flavor,
                "networks": [{"port": port} for port in ports],
                "config_drive": True,
                "user_data": base64.b64encode(user_data).decode(),
                "metadata": {KEY: marks.of(self._lab, part)},
                "block_device_mapping_v2": disks,
            }
        }
        if group:
            body["os:scheduler_hints"] = {"group": group}
        made = self._cloud.post("compute", "/servers", body)["server"]["id"]
        self.until(part, made, "ACTIVE", BUILD)

    def until(self, part: str, server: str, wanted: str, seconds: float) -> None:
        """Wait for a server's status; on ERROR with the cloud's own words."""
        deadline = time.monotonic() + seconds * self._cloud.patience
        while True:
            there = self._cloud.get("compute", f"/servers/{server}")["server"]
            if there["status"] == wanted and there.get("OS-EXT-STS:task_state") is None:
                return
            if there["status"] == "ERROR":
                fault = there.get("fault", {}).get("message", "no reason given")
                raise LabError(
                    f"{part.lstrip('_')} of {self._lab.name}: the cloud {self._cloud.name} could not run it: {fault}",
                    self._cloud.command(f"server show {server}"),
                )
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"{part.lstrip('_')} of {self._lab.name} is {there['status']}, not {wanted}, after {seconds:g} s",
                    self._cloud.command(f"server show {server}"),
                )
            time.sleep(1)

    def act(self, part: str, server: str, action: str, wanted: str, seconds: float = POWER) -> None:
        """Ask for an action, and wait for the status that it leads to; what is so already is no error.

        :raises LabError: the server is in error, or it takes too long.
        """
        try:
            self._cloud.post("compute", f"/servers/{server}/action", {action: None})
        except Refusal as error:
            if error.status != 409:  # it is so, or on the way there
                raise
        self.until(part, server, wanted, seconds)

    def console(self, server: str, lines: int | None = None) -> str:
        """A server's console log, or its last lines."""
        wanted = {} if lines is None else {"length": lines}
        answer = self._cloud.post("compute", f"/servers/{server}/action", {"os-getConsoleOutput": wanted})
        return str(answer["output"] or "")

    # --- disks -----------------------------------------------------------------------------------

    def freeze(self, part: str, server: str, layer: str) -> str:
        """Make an image of a stopped server's root disk; its id."""
        facts = {KEY: marks.of(self._lab, part), LAYER: layer}
        body = {"createImage": {"name": f"{self.name(part)}.layer-{layer}", "metadata": facts}}
        image = str(self._cloud.post("compute", f"/servers/{server}/action", body)["image_id"])
        self._cloud.ready("image", f"/v2/images/{image}", "active", f"the image of {part} of {self._lab.name}", FREEZE)
        self.until(part, server, "SHUTOFF", POWER)
        return image

    def volume(self, node: str, disk: str, size: int, snapshot: str = "") -> str:
        """The id of the volume that is a node's additional disk; made, of a snapshot's content, if there is none.

        :param size: bytes.
        """
        there = self.volumes(node)
        if disk in there:
            found = str(there[disk]["id"])
            if there[disk]["status"] == "creating":  # by a labctl that was killed
                self._filled(found, node, disk)
            return found
        body = {
            "name": f"{self.name(node)}.{disk}",
            "description": marks.of(self._lab, node),
            "metadata": {DISK: disk},
            "size": -(-size // GIB),
            **({"snapshot_id": snapshot} if snapshot else {}),
        }
        made = str(self._cloud.post("block-storage", "/volumes", {"volume": body})["volume"]["id"])
        self._filled(made, node, disk)
        return made

    def _filled(self, volume: str, node: str, disk: str) -> None:
        self._cloud.ready("block-storage", f"/volumes/{volume}", "available", f"the volume {disk} of {node}", FREEZE)

    def volumes(self, node: str) -> dict[str, dict[str, Any]]:
        """A node's volumes, by the name of the disk."""
        mark = marks.of(self._lab, node)
        found = self._cloud.get("block-storage", "/volumes/detail")["volumes"]
        return {v["metadata"][DISK]: v for v in found if v["description"] == mark and DISK in v["metadata"]}

    def freeze_volume(self, node: str, disk: str, volume: str, layer: str) -> str:
        """Make a snapshot of a volume; its id."""
        body = {
            "volume_id": volume,
            "force": True,
            "name": f"{self.name(node)}.{disk}.layer-{layer}",
            "description": marks.of(self._lab, node),
            "metadata": {LAYER: layer},
        }
        made = str(self._cloud.post("block-storage", "/snapshots", {"snapshot": body})["snapshot"]["id"])
        self._cloud.ready(
            "block-storage", f"/snapshots/{made}", "available", f"the snapshot of {disk} of {node}", FREEZE
        )
        return made

    # --- where they are put ----------------------------------------------------------------------

    def apart(self) -> str:
        """The id of the lab's server group, whose members the scheduler keeps on different hosts."""
        name = marks.group(self._lab.name)
        for group in self._cloud.get("compute", "/os-server-groups")["server_groups"]:
            if group["name"] == name:
                return str(group["id"])
        body = {"server_group": {"name": name, "policies": ["anti-affinity"]}}
        return str(self._cloud.post("compute", "/os-server-groups", body)["server_group"]["id"])


def wait_gone(cloud: Cloud, service: str, path: str, seconds: float = POWER) -> str:
    """Wait until what was deleted is gone; what is wrong if it is not after that many seconds."""
    deadline = time.monotonic() + seconds * cloud.patience
    while time.monotonic() < deadline:
        try:
            answer = cloud.get(service, path)
        except Refusal as error:
            if error.status == 404:
                return ""
            raise
        if next(iter(answer.values()))["status"] == "error_deleting":
            return "the cloud could not delete it"
        time.sleep(0.5)
    return f"still there {seconds:g} s after it was deleted"
