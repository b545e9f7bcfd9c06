"""Run API operations with keystoneauth, inside the lab's namespace, where the APIs are reachable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any, TypeVar
from urllib.parse import urlsplit

from keystoneauth1 import exceptions
from keystoneauth1.identity import v3

from labctl.errors import DeadlineError, LabError
from labctl.host import namespace
from labctl.host.polling import pause
from labctl.images.guest import GuestImage
from labctl.operations import openstack
from labctl.records.cloud import Session
from labctl.records.lab import Lab
from labctl.secret import Secret, reveal

Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class _Known:
    """Identity objects looked up once: name to id."""

    projects: dict[str, str] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    users: dict[tuple[str, str], str] = field(default_factory=dict)


class Cloud:
    """One authenticated session as the lab's admin; must be used inside the lab's namespace.

    Deadlines are as many times longer as the lab's machines are slower than the host.
    """

    def __init__(self, lab: Lab, secrets: Mapping[str, Secret], guest: GuestImage | None) -> None:
        self._lab, self._region = lab.name, lab.spec.region
        self._patience = lab.driver.patience
        self._auth_url = f"{lab.context.auth_url}/v3"
        self._secrets = secrets
        self._guest = guest
        self._auth = self._login("admin", "admin", secrets["ADMIN_PASS"].reveal())
        self._session = Session(auth=self._auth, timeout=60 * self._patience)
        self._known: _Known | None = None

    def _login(self, user: str, project: str, password: str) -> v3.Password:
        return v3.Password(
            auth_url=self._auth_url,
            username=user,
            password=password,
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
        )

    def hurry(self, seconds: float) -> None:
        """Wait only so many seconds for each further request."""
        self._session.timeout = seconds * self._patience

    # --- requests ------------------------------------------------------------------------------

    def _request(self, service: str, method: str, path: str, **options: Any) -> Any:
        """A JSON request to a service of the catalog."""
        where = {"service_type": service, "interface": "public", "region_name": self._region}
        answer = self._session.request(path, method, endpoint_filter=where, **options)
        return answer.json() if answer.content else {}

    def get(self, service: str, path: str) -> Json:
        """GET, as JSON."""
        found: Json = self._request(service, "GET", path)
        return found

    def post(self, service: str, path: str, body: Json) -> Json:
        """POST, as JSON."""
        made: Json = self._request(service, "POST", path, json=body)
        return made

    def put(self, service: str, path: str, body: Json) -> Json:
        """PUT, as JSON."""
        changed: Json = self._request(service, "PUT", path, json=body)
        return changed

    def delete(self, service: str, path: str) -> None:
        """DELETE."""
        self._request(service, "DELETE", path)

    @property
    def _identity(self) -> _Known:
        if self._known is None:
            self._known = _Known(
                {p["name"]: p["id"] for p in self.get("identity", "/projects")["projects"]},
                {d["name"]: d["id"] for d in self.get("identity", "/domains")["domains"]},
                {r["name"]: r["id"] for r in self.get("identity", "/roles")["roles"]},
                {(u["domain_id"], u["name"]): u["id"] for u in self.get("identity", "/users")["users"]},
            )
        return self._known

    # --- identity ------------------------------------------------------------------------------

    @singledispatchmethod
    def run(self, operation: Any) -> bool:
        """Run an operation; return True when it changed something.

        :raises LabError: it failed.
        """
        raise LabError(f"unsupported operation {operation!r}")

    @run.register
    def _(self, wanted: openstack.Project) -> bool:
        if wanted.name in self._identity.projects:
            return False
        body = {"project": {"name": wanted.name, "description": wanted.description, "domain_id": "default"}}
        self._identity.projects[wanted.name] = self.post("identity", "/projects", body)["project"]["id"]
        return True

    @run.register
    def _(self, wanted: openstack.Domain) -> bool:
        if wanted.name in self._identity.domains:
            return False
        body = {"domain": {"name": wanted.name, "description": wanted.description}}
        self._identity.domains[wanted.name] = self.post("identity", "/domains", body)["domain"]["id"]
        return True

    @run.register
    def _(self, wanted: openstack.Role) -> bool:
        if wanted.name in self._identity.roles:
            return False
        made = self.post("identity", "/roles", {"role": {"name": wanted.name}})
        self._identity.roles[wanted.name] = made["role"]["id"]
        return True

    @run.register
    def _(self, wanted: openstack.User) -> bool:
        domain = self._identity.domains[wanted.domain]
        found = self._identity.users.get((domain, wanted.name))
        password = reveal(wanted.password, self._secrets)
        if found is None:
            body = {"user": {"name": wanted.name, "password": password, "domain_id": domain}}
            made = self.post("identity", "/users", body)["user"]["id"]
            self._identity.users[(domain, wanted.name)] = made
            return True
        if self.password_holds(found, wanted.password):
            return False
        self._request("identity", "PATCH", f"/users/{found}", json={"user": {"password": password}})
        return True

    def password_holds(self, user_id: str, password: str) -> bool:
        """Whether an account accepts a password, the mark of a secret."""
        password = reveal(password, self._secrets)
        auth = v3.Password(auth_url=self._auth_url, user_id=user_id, password=password, unscoped=True)
        try:
            Session(auth=auth, timeout=self._session.timeout).get_token()
        except exceptions.Unauthorized:
            return False
        return True

    @run.register
    def _(self, wanted: openstack.Grant) -> bool:
        known = self._identity
        role, domain = known.roles[wanted.role], known.domains[wanted.domain]
        user = known.users[(domain, wanted.user)]
        scope = f"projects/{known.projects[wanted.project]}" if wanted.project else f"domains/{domain}"
        granted = self.get("identity", f"/{scope}/users/{user}/roles")["roles"]
        if role in {r["id"] for r in granted}:
            return False
        self._request("identity", "PUT", f"/{scope}/users/{user}/roles/{role}")
        return True

    @run.register
    def _(self, wanted: openstack.CatalogEntry) -> bool:
        changed = False
        services = self.get("identity", f"/services?type={wanted.type}")["services"]
        if services:
            service = services[0]["id"]
        else:
            body = {"name": wanted.name, "type": wanted.type, "description": wanted.description}
            service = self.post("identity", "/services", {"service": body})["service"]["id"]
            changed = True
        there = {
            e["interface"]: e
            for e in self.get("identity", f"/endpoints?service_id={service}")["endpoints"]
            if e["region"] == wanted.region
        }
        for interface in ("public", "internal", "admin"):
            url = wanted.url_of(interface)
            if interface not in there:
                body = {"service_id": service, "interface": interface, "region": wanted.region, "url": url}
                self.post("identity", "/endpoints", {"endpoint": body})
                changed = True
            elif there[interface]["url"] != url:
                path = f"/endpoints/{there[interface]['id']}"
                self._request("identity", "PATCH", path, json={"endpoint": {"url": url}})
                changed = True
        if changed:
            self._session.invalidate()  # the token's catalog is older than the new endpoint
        return changed

    # --- fixtures ------------------------------------------------------------------------------

    @run.register
    def _(self, wanted: openstack.FlavorEntry) -> bool:
        if wanted.name in {f["name"] for f in self.get("compute", "/flavors?is_public=None")["flavors"]}:
            return False
        body = {"name": wanted.name, "vcpus": wanted.vcpus, "ram": wanted.ram, "disk": wanted.disk}
        self.post("compute", "/flavors", {"flavor": body})
        return True

    @run.register
    def _(self, wanted: openstack.GuestImageUpload) -> bool:
        guest = self._guest
        assert guest is not None, "the engine fetches the guest image before it enters the namespace"
        for image in self.get("image", f"/v2/images?name={wanted.name}")["images"]:
            if image["status"] == "active" and image.get("labctl_sha256") == guest.sha256:
                return False
            self._request("image", "DELETE", f"/v2/images/{image['id']}")
        body = {
            "name": wanted.name,
            "disk_format": "qcow2",
            "container_format": "bare",
            "visibility": "public",
            "labctl_sha256": guest.sha256,
            "labctl_origin": guest.origin,
        }
        image = self.post("image", "/v2/images", body)
        headers = {"Content-Type": "application/octet-stream"}
        with guest.path.open("rb") as content:
            self._request("image", "PUT", f"/v2/images/{image['id']}/file", data=content, headers=headers)
        return True

    @run.register
    def _(self, wanted: openstack.ProviderNetwork) -> bool:
        changed = False
        networks = self.get("network", f"/v2.0/networks?name={wanted.name}")["networks"]
        if not networks:
            body = {
                "name": wanted.name,
                "shared": True,
                "router:external": True,
                "provider:network_type": "flat",
                "provider:physical_network": wanted.physical,
            }
            networks = [self.post("network", "/v2.0/networks", {"network": body})["network"]]
            changed = True
        if not networks[0]["subnets"]:
            subnet: Json = {
                "name": wanted.name,
                "network_id": networks[0]["id"],
                "ip_version": 4,
                "cidr": wanted.cidr,
                "gateway_ip": wanted.gateway,
                "allocation_pools": [{"start": wanted.first, "end": wanted.last}],
            }
            if wanted.dns:
                subnet["dns_nameservers"] = [wanted.dns]
            self.post("network", "/v2.0/subnets", {"subnet": subnet})
            changed = True
        return changed

    @run.register
    def _(self, wanted: openstack.SelfServiceNetwork) -> bool:
        owner = {"project_id": self._identity.projects[wanted.project]}
        network, made_network = self._ensure("network", {"name": wanted.name, **owner})
        subnet, made_subnet = self._ensure(
            "subnet",
            {"name": wanted.name, "network_id": network["id"], **owner},
            {"ip_version": 4, "cidr": wanted.cidr},
        )
        router, made_router = self._ensure("router", {"name": wanted.router, **owner})
        if not router["external_gateway_info"]:
            (outside,) = self.get("network", f"/v2.0/networks?name={wanted.external}")["networks"]
            gateway = {"router": {"external_gateway_info": {"network_id": outside["id"]}}}
            self._request("network", "PUT", f"/v2.0/routers/{router['id']}", json=gateway)
        ports = self.get("network", f"/v2.0/ports?device_id={router['id']}&network_id={network['id']}")["ports"]
        if not ports:
            path = f"/v2.0/routers/{router['id']}/add_router_interface"
            self._request("network", "PUT", path, json={"subnet_id": subnet["id"]})
        return made_network or made_subnet or made_router or not ports

    def _ensure(self, kind: str, identity: Json, rest: Json | None = None) -> tuple[Json, bool]:
        """The network object with these attributes, and whether it was created."""
        query = "&".join(f"{key}={value}" for key, value in identity.items())
        found = self.get("network", f"/v2.0/{kind}s?{query}")[f"{kind}s"]
        if found:
            return found[0], False
        return self.post("network", f"/v2.0/{kind}s", {kind: {**identity, **(rest or {})}})[kind], True

    # --- waiting and checking ------------------------------------------------------------------

    def _until(self, what: str, seconds: float, look: Callable[[], str]) -> bool:
        """Wait until ``look`` returns an empty string; any other value says what is missing."""
        seconds *= self._patience
        deadline = time.monotonic() + seconds
        while True:
            asked = time.monotonic()
            try:
                missing = look()
            except (exceptions.ClientException, KeyError) as error:
                missing = f"{type(error).__name__}: {error}"
            if not missing:
                return False
            now = time.monotonic()
            if now > deadline:
                raise DeadlineError(f"{what}: timed out after {seconds:g} s: {missing}", f"labctl status {self._lab}")
            time.sleep(pause(now - asked, 0.4))

    @run.register
    def _(self, wanted: openstack.ComputeHosts) -> bool:
        def look() -> str:
            rows = self.get("compute", "/os-services?binary=nova-compute")["services"]
            up = {r["host"] for r in rows if r["state"] == "up" and r["status"] == "enabled"}
            absent = [h for h in wanted.hosts if h not in up]
            return f"nova-compute is not up on {', '.join(absent)}" if absent else ""

        return self._until(wanted.title, wanted.seconds, look)

    @run.register
    def _(self, wanted: openstack.HypervisorsMapped) -> bool:
        def look() -> str:
            rows = self.get("compute", "/os-hypervisors")["hypervisors"]
            absent = set(wanted.hosts) - {row["hypervisor_hostname"].partition(".")[0] for row in rows}
            return f"not listed: {', '.join(sorted(absent))}" if absent else ""

        return self._until(wanted.title, wanted.seconds, look)

    @run.register
    def _(self, wanted: openstack.AgentsAlive) -> bool:
        def look() -> str:
            rows = self.get("network", "/v2.0/agents")["agents"]
            alive = {(r["binary"], r["host"]) for r in rows if r["alive"]}
            absent = [f"{b}@{h}" for b, h in wanted.agents if (b, h) not in alive]
            return f"not alive: {', '.join(absent)}" if absent else ""

        return self._until(wanted.title, wanted.seconds, look)

    @run.register
    def _(self, wanted: openstack.DhcpPlugged) -> bool:
        def look() -> str:
            # a network whose DHCP was switched off later needs no DHCP port
            asking = {s["network_id"] for s in self.get("network", "/v2.0/subnets?enable_dhcp=true")["subnets"]}
            ports = self.get("network", "/v2.0/ports?device_owner=network:dhcp")["ports"]
            served = {p["network_id"] for p in ports if p["status"] == "ACTIVE"}
            networks = self.get("network", "/v2.0/networks")["networks"]
            absent = [n["name"] for n in networks if n["name"] in wanted.networks and n["id"] in asking - served]
            return f"no DHCP port is ACTIVE in {', '.join(absent)}" if absent else ""

        return self._until(wanted.title, wanted.seconds, look)

    @run.register
    def _(self, wanted: openstack.ServicesUp) -> bool:
        path = "/services" if wanted.type == "orchestration" else "/os-services"

        def look() -> str:
            rows = self.get(wanted.type, path)["services"]
            up = {(r["binary"], r["host"]) for r in rows if (r.get("state") or r.get("status")) == "up"}
            absent = [f"{b}@{h}" for b, h in wanted.services if (b, h) not in up]
            return f"not up: {', '.join(absent)}" if absent else ""

        return self._until(wanted.title, wanted.seconds, look)

    @run.register
    def _(self, wanted: openstack.CatalogAnswers) -> bool:
        def look() -> str:
            catalog = self._auth.get_access(self._session).service_catalog.catalog
            for type_ in wanted.types:
                endpoints = [e for s in catalog if s["type"] == type_ for e in s["endpoints"]]
                interfaces = sorted(e["interface"] for e in endpoints if e["region"] == wanted.region)
                if interfaces != ["admin", "internal", "public"]:
                    return f"{type_} has the interfaces {interfaces} in {wanted.region}"
                for url in {_root(e["url"]) for e in endpoints}:
                    status = self._session.get(url, authenticated=False, raise_exc=False, redirect=False).status_code
                    if status >= 500:
                        return f"{type_}: {url} answers {status}"
            return ""

        return self._until(wanted.title, wanted.seconds, look)


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def ask(lab: Lab, secrets: Mapping[str, Secret], question: Callable[[Cloud], T], guest: GuestImage | None = None) -> T:
    """Call a function with the lab's APIs.

    :param guest: the image to upload, for a function that uploads one.
    :raises ClientException: an API does not answer, or refuses the request (keystoneauth1).
    """
    with namespace.Inside(lab.namespace, lab.hosts_file) as inside:
        return inside.call(lambda: question(Cloud(lab, secrets, guest)))
