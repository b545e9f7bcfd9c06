"""Run API operations inside the lab's namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import singledispatchmethod
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from keystoneauth1 import exceptions

from labctl.engine import ports
from labctl.engine.client import Client, Json
from labctl.errors import LabError
from labctl.host import namespace
from labctl.images.guest import GuestImage
from labctl.operations import openstack
from labctl.operations.networks import PortsBound, ProviderNetwork, SelfServiceNetwork
from labctl.records.lab import Lab
from labctl.secret import Secret, reveal

T = TypeVar("T")


class Cloud(Client):
    """What the plan's API operations do.

    :param guest: the image that an operation uploads.
    """

    def __init__(self, lab: Lab, secrets: Mapping[str, Secret], guest: GuestImage | None) -> None:
        super().__init__(lab, secrets)
        self._guest = guest

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

    @run.register
    def _(self, wanted: openstack.CatalogGone) -> bool:
        found = self.get("identity", f"/services?type={wanted.type}")["services"]
        for service in found:  # and its endpoints with it
            self._request("identity", "DELETE", f"/services/{service['id']}")
        if found:
            self._session.invalidate()
        return bool(found)

    @run.register
    def _(self, wanted: openstack.RoleImmutable) -> bool:
        found = self.get("identity", f"/roles?name={wanted.name}")["roles"]
        for role in (open_ := [role for role in found if not role.get("options", {}).get("immutable")]):
            self._request("identity", "PATCH", f"/roles/{role['id']}", json={"role": {"options": {"immutable": True}}})
        return bool(open_)

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
    def _(self, wanted: openstack.ArchivePolicy) -> bool:
        if wanted.name in {row["name"] for row in self.rows("metric", "/v1/archive_policy")}:
            return False
        body = {
            "name": wanted.name,
            "aggregation_methods": list(wanted.methods),
            "definition": [{"granularity": wanted.granularity, "timespan": wanted.kept}],
        }
        self.post("metric", "/v1/archive_policy", body)
        return True

    @run.register
    def _(self, wanted: ProviderNetwork) -> bool:
        changed = False
        networks = self.get("network", f"/v2.0/networks?{urlencode({'name': wanted.name})}")["networks"]
        if not networks:
            body: Json = {
                "name": wanted.name,
                "shared": True,
                "router:external": True,
                "provider:network_type": "flat" if wanted.vlan is None else "vlan",
                "provider:physical_network": wanted.physical,
            }
            if wanted.vlan is not None:
                body["provider:segmentation_id"] = wanted.vlan
            if wanted.mtu:
                body["mtu"] = wanted.mtu
            networks = [self.post("network", "/v2.0/networks", {"network": body})["network"]]
            changed = True
        # external networks' subnets are found by their network: projects may use the same names
        network = {"network_id": networks[0]["id"]}
        subnet: Json = {
            "ip_version": 4,
            "cidr": wanted.cidr,
            "gateway_ip": wanted.gateway,
            "allocation_pools": [{"start": wanted.first, "end": wanted.last}],
        }
        if wanted.dns:
            subnet["dns_nameservers"] = [wanted.dns]
        changed |= self._ensure("subnet", {"name": wanted.name, **network}, subnet)[1]
        if wanted.ipv6:
            subnet = {"ip_version": 6, "cidr": wanted.ipv6, "gateway_ip": wanted.ipv6_gateway, "enable_dhcp": False}
            changed |= self._ensure("subnet", {"name": wanted.ipv6_name, **network}, subnet)[1]
        return changed

    @run.register
    def _(self, wanted: SelfServiceNetwork) -> bool:
        owner = {"project_id": self._identity.projects[wanted.project]}
        size: Json = {"mtu": wanted.mtu} if wanted.mtu else {}
        network, changed = self._ensure("network", {"name": wanted.name, **owner}, size)
        bodies: dict[str, Json] = {wanted.name: {"ip_version": 4, "cidr": wanted.cidr}}
        if wanted.ipv6:
            modes = {"ipv6_ra_mode": wanted.ipv6_mode, "ipv6_address_mode": wanted.ipv6_mode}
            bodies[wanted.ipv6_name] = {"ip_version": 6, "cidr": wanted.ipv6, **modes}
        subnets = []
        for name, body in bodies.items():
            subnet, made = self._ensure("subnet", {"name": name, "network_id": network["id"], **owner}, body)
            subnets.append(subnet["id"])
            changed |= made
        router, made = self._ensure("router", {"name": wanted.router, **owner})
        if not router["external_gateway_info"]:
            gateway = {"router": {"external_gateway_info": self._outside(wanted)}}
            self._request("network", "PUT", f"/v2.0/routers/{router['id']}", json=gateway)
        ports = self.get("network", f"/v2.0/ports?device_id={router['id']}&network_id={network['id']}")["ports"]
        plugged = {fixed["subnet_id"] for port in ports for fixed in port["fixed_ips"]}
        for subnet in (subnet for subnet in subnets if subnet not in plugged):
            path = f"/v2.0/routers/{router['id']}/add_router_interface"
            self._request("network", "PUT", path, json={"subnet_id": subnet})
        return changed or made or not set(subnets) <= plugged

    def _outside(self, wanted: SelfServiceNetwork) -> Json:
        """The gateway of a router; with IPv6, at the address by which the lab's namespace routes."""
        (network,) = self.get("network", f"/v2.0/networks?{urlencode({'name': wanted.external})}")["networks"]
        found: Json = {"network_id": network["id"]}
        if wanted.ipv6_router:
            subnets = self.get("network", f"/v2.0/subnets?network_id={network['id']}")["subnets"]
            ids = {subnet["ip_version"]: subnet["id"] for subnet in subnets}
            found["external_fixed_ips"] = [
                {"subnet_id": ids[4]},
                {"subnet_id": ids[6], "ip_address": wanted.ipv6_router},
            ]
        return found

    @run.register
    def _(self, wanted: openstack.ComputeServiceGone) -> bool:
        rows = self.get("compute", "/os-services?binary=nova-compute")["services"]
        stale = [f"/os-services/{row['id']}" for row in rows if row["host"] == wanted.host]
        for path in stale:
            try:
                self.delete("compute", path)
            except exceptions.InternalServerError:
                self._provide(wanted.host)
                self.delete("compute", path)
        return bool(stale)

    def _provide(self, host: str) -> None:
        """Make the resource providers of a compute service: nova does not delete the service without.

        They are missing where another host had their name: a node whose daemon was told another host name.
        """
        for row in self._request("compute", "GET", "/os-hypervisors/detail", microversion="2.53")["hypervisors"]:
            if row["service"]["host"] == host:
                with suppress(exceptions.Conflict):  # it is there
                    self.post("placement", "/resource_providers", {"uuid": row["id"], "name": row["id"]})

    # --- waiting and checking ------------------------------------------------------------------

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
    def _(self, wanted: PortsBound) -> bool:
        ports.delete(self, wanted.gone)
        return self._until(wanted.title, wanted.seconds, lambda: ports.bind(self))

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
    def _(self, wanted: openstack.MeasuresArrive) -> bool:
        def look() -> str:
            age = self.measured(wanted)
            return "" if age is not None else f"no measure of the image {wanted.image} yet"

        return self._until(wanted.title, wanted.seconds, look)

    def measured(self, wanted: openstack.MeasuresArrive) -> float | None:
        """Seconds since the newest measure of what proves that telemetry works; None if there is none."""
        images = self.get("image", f"/v2/images?{urlencode({'name': wanted.image})}")["images"]
        if not images:
            return None
        path = f"/v1/resource/generic/{images[0]['id']}/metric/{wanted.metric}/measures"
        try:
            rows = self.rows("metric", f"{path}?granularity={wanted.interval}")
        except exceptions.NotFound:
            return None
        return _age(rows[-1][0]) if rows else None

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


def _age(timestamp: str) -> float:
    """Seconds since a timestamp of an API, which is in UTC if it does not say otherwise."""
    then = datetime.fromisoformat(timestamp)
    return (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()


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
