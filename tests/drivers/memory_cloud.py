"""A cloud in memory that answers the driver's requests as the APIs do, and fails where a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from labctl.drivers.openstack.cloud import Cloud, Refusal

#: Path of a list -> the key of its answer; one of them is made by a POST to the same path, under the other key.
LISTS = {
    "/servers": ("servers", "server"),
    "/flavors": ("flavors", "flavor"),
    "/os-server-groups": ("server_groups", "server_group"),
    "/volumes": ("volumes", "volume"),
    "/snapshots": ("snapshots", "snapshot"),
    "/v2/images": ("images", ""),
    "/v2.0/networks": ("networks", "network"),
    "/v2.0/subnets": ("subnets", "subnet"),
    "/v2.0/ports": ("ports", "port"),
    "/v2.0/routers": ("routers", "router"),
    "/v2.0/floatingips": ("floatingips", "floatingip"),
    "/v2.0/security-groups": ("security_groups", "security_group"),
    "/v2.0/security-group-rules": ("security_group_rules", "security_group_rule"),
}
#: Lists of what is still there after it was deleted, until it is looked at once more.
SLOW = ("/volumes", "/snapshots")
LIMITS = {
    "maxTotalInstances": 10, "totalInstancesUsed": 0, "maxTotalCores": 20, "totalCoresUsed": 0,
    "maxTotalRAMSize": 51200, "totalRAMUsed": 0, "maxTotalVolumes": 10, "totalVolumesUsed": 0,
    "maxTotalVolumeGigabytes": 1000, "totalGigabytesUsed": 0,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "/servers": {"status": "ACTIVE", "OS-EXT-STS:task_state": None},
    "/volumes": {"status": "available"},
    "/snapshots": {"status": "available"},
    "/v2/images": {"status": "queued"},
    "/v2.0/networks": {"mtu": 1500},
    "/v2.0/floatingips": {"floating_ip_address": "203.0.113.9"},
    "/v2.0/ports": {"device_id": "", "device_owner": ""},
}


class Answered(Exception):
    """What keystoneauth raises for an answer with an error, as far as the driver looks at it."""

    def __init__(self, status: int, text: str) -> None:
        self.http_status, self.details, self.message, self.response = status, text, text, None


class MemoryCloud(Cloud):
    """Everything that was made, by the path of its list, and every request."""

    image_format = "qcow2"
    patience = 1.0
    project = "p"

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.things: dict[str, dict[str, dict[str, Any]]] = {path: {} for path in LISTS}
        self.things["/v2.0/networks"]["outer"] = {"id": "outer", "name": "public", "router:external": True}
        self.requests: list[str] = []
        self.services = {"compute", "network", "image", "block-storage"}
        self.forbids = ""
        self.aliases = {"port-security", "allowed-address-pairs", "security-group"}
        self.limits = dict(LIMITS)
        #: what a new server becomes, and why
        self.server_status, self.fault = "ACTIVE", ""
        #: the number of the request at which labctl is killed: it makes no other
        self.killed_at = 0
        #: method and path of a request -> status and text with which it is refused
        self.refused: dict[str, tuple[int, str]] = {}
        #: whether a machine that is told to shut down does
        self.shuts_down = True
        #: how many bytes of an upload come through; all
        self.cut = -1
        #: entries in a page of its images; Glance has 25
        self.page = 25
        #: its policy forbids ports without a filter
        self.strict = False
        self._numbers = itertools.count(1)

    def has(self, service: str) -> bool:
        return service in self.services

    def made(self) -> dict[str, int]:
        """How many there are of each kind, of those that the driver made."""
        counts = {path: len(found) - ("outer" in found) for path, found in self.things.items()}
        return {path: count for path, count in counts.items() if count and path != "/v2.0/security-group-rules"}

    # --- requests --------------------------------------------------------------------------------

    def _begin(self, method: str, path: str) -> None:
        self.requests.append(f"{method} {path}")
        if 0 < self.killed_at <= len(self.requests):
            raise KeyboardInterrupt
        for what, (status, text) in self.refused.items():
            if f"{method} {path}".startswith(what):
                raise self._no(status, f"{method} {path}", text)

    def _no(self, status: int, what: str, text: str) -> Refusal:
        return Refusal(self, what, Answered(status, text))  # type: ignore[arg-type]

    def get(self, service: str, path: str, query: Mapping[str, Any] | None = None) -> Any:
        path, _, more = path.partition("?")
        query = {**(query or {}), **dict(parse_qsl(more))}
        self._begin("GET", path)
        if path == "/limits":
            return {"limits": {"absolute": self.limits}}
        if path == "/v2.0/extensions":
            return {"extensions": [{"alias": alias} for alias in sorted(self.aliases)]}
        if "/quotas/" in path:
            return {"quota": {}}
        wanted = path.removesuffix("/detail")
        if wanted in LISTS:
            found = [thing for thing in self.things[wanted].values() if _matches(thing, query)]
            if wanted != "/v2/images":
                return {LISTS[wanted][0]: found}
            end = int(query.get("marker", 0)) + self.page
            link = {"next": f"/v2/images?{urlencode({**query, 'marker': end})}"} if end < len(found) else {}
            return {"images": found[end - self.page : end], **link}
        where, _, number = wanted.rpartition("/")
        if where in SLOW and self.things[where].get(number, {}).get("status") == "deleting":
            del self.things[where][number]
        if number not in self.things[where]:
            raise self._no(404, path, "not found")
        key = LISTS[where][1]
        return {key: self.things[where][number]} if key else self.things[where][number]

    def post(self, service: str, path: str, body: Any) -> Any:
        self._begin("POST", path)
        if path.endswith("/action"):
            return self._act(path.split("/")[2], *next(iter(body.items())))
        key = LISTS[path][1]
        self._allow(path, body)
        thing = {**DEFAULTS.get(path, {}), **(body[key] if key else body), "id": f"id{next(self._numbers)}"}
        if path == "/servers":
            hints = body.get("os:scheduler_hints", {})
            thing |= {"status": self.server_status, "fault": {"message": self.fault}, "hints": hints}
            thing["image"] = {"id": thing["imageRef"]} if "imageRef" in thing else ""
        self.things[path][thing["id"]] = thing
        if path == "/v2.0/security-groups":  # Neutron gives a new one these
            for family in ("IPv4", "IPv6"):
                rule = {"security_group_id": thing["id"], "direction": "egress", "ethertype": family, "protocol": None}
                number = f"id{next(self._numbers)}"
                self.things["/v2.0/security-group-rules"][number] = {**rule, "id": number}
        return {key: thing} if key else thing

    def _allow(self, path: str, body: Any) -> None:
        """Refuse what Neutron refuses."""
        if "port_security_enabled" in body.get("port", {}):
            if "port-security" not in self.aliases:
                raise self._no(400, f"POST {path}", "Unrecognized attribute(s) 'port_security_enabled'")
            if self.strict:
                raise self._no(403, f"POST {path}", "rule:create_port:port_security_enabled is disallowed by policy")
        rule = body.get("security_group_rule")
        if rule and any(rule.items() <= there.items() for there in self.things[path].values()):
            raise self._no(409, f"POST {path}", "Security group rule already exists.")

    def _act(self, server: str, action: str, how: Any) -> Any:
        there = self.things["/servers"][server]
        if action == "os-getConsoleOutput":
            return {"output": "reboot: Power down" if self.shuts_down else "login:"}
        if action == "createImage":
            origin = self.things["/v2/images"].get(there["imageRef"], {})
            about = {"id": f"id{next(self._numbers)}", "name": how["name"], "status": "active", **how["metadata"]}
            image = {**origin, **about}
            self.things["/v2/images"][image["id"]] = image
            return {"image_id": image["id"]}
        there["status"] = {"os-stop": "SHUTOFF", "os-start": "ACTIVE", "pause": "PAUSED", "unpause": "ACTIVE"}[action]
        return None

    def put(self, service: str, path: str, body: Any) -> Any:
        self._begin("PUT", path)
        if path.endswith("/add_router_interface"):
            router = path.split("/")[3]
            (subnet,) = (s for s in self.things["/v2.0/subnets"].values() if s["id"] == body["subnet_id"])
            port = {"id": f"id{next(self._numbers)}", "device_id": router, "device_owner": "network:router_interface"}
            port |= {"network_id": subnet["network_id"], "fixed_ips": [{"subnet_id": subnet["id"]}], "name": ""}
            self.things["/v2.0/ports"][port["id"]] = port
            return None
        if path.endswith("/remove_router_interface"):
            ports = self.things["/v2.0/ports"]
            for port_id in [p["id"] for p in ports.values() if p["device_id"] == path.split("/")[3]]:
                del ports[port_id]
            return None
        where, _, number = path.rpartition("/")
        key = LISTS[where][1]
        self.things[where][number] |= body[key]
        if where == "/v2.0/ports" and "admin_state_up" in body[key]:
            self.things[where][number]["status"] = "ACTIVE" if body[key]["admin_state_up"] else "DOWN"
        return {key: self.things[where][number]}

    def delete(self, service: str, path: str) -> None:
        self._begin("DELETE", path)
        where, _, number = path.rpartition("/")
        if where == "/v2.0/networks":
            if any(port["network_id"] == number for port in self.things["/v2.0/ports"].values()):
                raise self._no(409, path, "one or more ports have an IP allocation")
            subnets = self.things["/v2.0/subnets"]
            for subnet in [s["id"] for s in subnets.values() if s["network_id"] == number]:
                del subnets[subnet]
        if where in SLOW and number in self.things[where]:
            there = self.things[where][number]
            kept = any(each["volume_id"] == number for each in self.things["/snapshots"].values())
            if there["status"] == "deleting" or (where == "/volumes" and kept):
                raise self._no(400, path, "status must be available or error and must not have snapshots")
            there["status"] = "deleting"
            return
        self.things[where].pop(number, None)

    def request(self, service: str, method: str, path: str, **options: Any) -> Any:
        image = self.things["/v2/images"][path.split("/")[3]]
        image["status"] = "saving"
        self._begin(method, path)
        content = options["data"].read(self.cut)
        image |= {"status": "active", "size": len(content), "head": content[:4]}


def _matches(thing: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    def same(key: str, wanted: Any) -> bool:
        there = thing.get(key, False if key == "router:external" else None)
        if key == "name" and str(wanted).startswith("^"):
            return there == str(wanted)[1:-1].replace("\\", "")
        return bool(there == wanted)

    return all(same(key, wanted) for key, wanted in query.items() if key not in ("visibility", "marker"))
