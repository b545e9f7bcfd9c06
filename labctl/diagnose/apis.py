"""Questions to a lab's APIs: whether the accounts, endpoints and agents of the plan are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from keystoneauth1 import exceptions

from labctl.components import Component
from labctl.diagnose.model import Finding, Level, Mend
from labctl.diagnose.rows import ROWS
from labctl.engine.cloud import Cloud
from labctl.errors import LabError
from labctl.operations import openstack
from labctl.operations.networks import SelfServiceNetwork
from labctl.operations.openstack import ApiOperation
from labctl.records.lab import Lab
from labctl.text.quoting import sh

T = TypeVar("T")
#: Seconds for one request, and for a second try of one that timed out: a busy API is not a broken one.
TRIES = (10, 60)
#: The same where what an API stands on is broken: it often waits for that, as heat's for its engine.
DOOMED = (5,)
#: Intervals after which a measure is overdue: it has the time at which its interval began, and metricd waits too.
MISSED = 4
#: Service names of the types that list their own services.
_SERVICE_OF = {"compute": "nova", "volumev2": "cinder", "volumev3": "cinder", "orchestration": "heat"}


def ask(lab: Lab, cloud: Cloud, operations: tuple[ApiOperation, ...], before: Sequence[Finding] = ()) -> list[Finding]:
    """The findings of all APIs; one that does not answer is a finding itself.

    :param before: what is known to be wrong; an API whose silence it explains is asked once, and briefly.
    """
    found: list[Finding] = []
    for kind, service, question in _QUESTIONS:
        for asked, about in _subjects(kind, service, operations):
            silent = _silence(lab, asked)
            tries = DOOMED if any(finding.explains(silent) for finding in before) else TRIES
            try:
                found += _patiently(cloud, partial(_answers, question, lab, cloud, about), tries)
            except (exceptions.ClientException, LookupError, ValueError) as error:  # also another API at its address
                found.append(replace(silent, found=f"{silent.found}: {error}"))
            except Exception as error:  # a bug in one question must not cost the others
                text = f"the question about {kind.__name__}: {type(error).__name__}: {error}"
                found.append(_finding(lab, "L6", Level.GUEST, asked, text, f"labctl shell {lab.name}"))
    return found


def _silence(lab: Lab, service: str) -> Finding:
    row, level = ("A8", Level.IDENTITY) if service == "keystone" else ("B63", Level.API)
    return _finding(lab, row, level, service, f"{service} does not answer")


def _subjects(kind: type, service: str, operations: tuple[ApiOperation, ...]) -> Iterator[tuple[str, list[Any]]]:
    """Whom a question asks about which operations: each project knows its own services."""
    wanted = [operation for operation in operations if isinstance(operation, kind)]
    if kind is openstack.ServicesUp:
        yield from ((_SERVICE_OF[o.type], [o]) for o in wanted if isinstance(o, openstack.ServicesUp))
    elif wanted:
        yield service, wanted


def _answers(question: Callable[..., Iterator[Finding]], *about: Any) -> list[Finding]:
    return list(question(*about))


def _patiently(cloud: Cloud, asked: Callable[[], T], tries: tuple[int, ...]) -> T:
    """What a question returns, at a further try if a request timed out."""
    for seconds in tries[:-1]:
        cloud.hurry(seconds)
        with suppress(exceptions.ConnectTimeout):
            return asked()
    cloud.hurry(tries[-1])
    return asked()


def _finding(
    lab: Lab,
    row: str,
    level: Level,
    service: str,
    text: str,
    fix: str | None = None,
    again: ApiOperation | None = None,
) -> Finding:
    """A finding of the APIs.

    :param fix: a command, or one of OpenStack's client; by default labctl's own.
    :param again: the plan's operation that mends it.
    """
    mend = Mend(api=(again,)) if again else None
    if fix is None:
        fix = f"labctl diagnose {lab.name} --fix" if again else lab.up()
    elif fix.startswith("openstack "):
        words = f"sh -c {sh(fix)}" if "$(" in fix else fix
        fix = f"labctl exec {lab.name} -- {words}"
    return Finding(ROWS[row], level, "api", service, text, fix, mend)


def _restart(lab: Lab, node: str, daemon: str) -> str:
    return f"labctl ssh {lab.name} {node} -- systemctl restart {lab.context.base.unit(daemon)}"


def _catalog(lab: Lab, cloud: Cloud, wanted: list[openstack.CatalogEntry]) -> Iterator[Finding]:
    services = cloud.get("identity", "/services")["services"]
    endpoints = cloud.get("identity", "/endpoints")["endpoints"]
    for entry in wanted:
        ids = [s["id"] for s in services if s["type"] == entry.type]
        service = entry.name.rstrip("23") if entry.name.startswith("cinder") else entry.name
        if len(ids) != 1:
            yield _finding(lab, "A12", Level.CATALOG, service, f"{len(ids)} services of type {entry.type}, not 1")
            continue
        for interface in ("public", "internal", "admin"):
            there = [e for e in endpoints if e["service_id"] == ids[0] and e["interface"] == interface]
            here = [e for e in there if e["region"] == entry.region]
            url = entry.url_of(interface)
            if len(here) > 1:
                extra = [e for e in here if e["url"] != url] or here[1:]
                fix = "openstack endpoint delete " + " ".join(e["id"] for e in extra)
                yield _finding(
                    lab, "A12", Level.CATALOG, service, f"{len(here)} {interface} endpoints of {entry.type}", fix
                )
            elif not here:
                text = f"no {interface} endpoint of {entry.type}"
                yield _finding(lab, "A12", Level.CATALOG, service, text, again=entry)
            elif here[0]["url"] != url:
                text = f"{interface} endpoint of {entry.type} is {here[0]['url']}, not {url}"
                yield _finding(lab, "A12", Level.CATALOG, service, text, again=entry)
            elif not here[0]["enabled"]:
                fix = f"openstack endpoint set --enable {here[0]['id']}"
                yield _finding(
                    lab, "A12", Level.CATALOG, service, f"{interface} endpoint of {entry.type} is disabled", fix
                )


def _accounts(lab: Lab, cloud: Cloud, wanted: list[openstack.User]) -> Iterator[Finding]:
    domains = {d["name"]: d["id"] for d in cloud.get("identity", "/domains")["domains"]}
    users = {(u["domain_id"], u["name"]): u for u in cloud.get("identity", "/users")["users"]}
    for user in wanted:
        there = users.get((domains.get(user.domain, ""), user.name))
        service = _owner(user.name)
        if there is None:
            yield _finding(lab, "A11", Level.CATALOG, service, f"no user {user.name}", again=user)
        elif not there["enabled"]:
            fix = f"openstack user set --enable {there['id']}"
            yield _finding(lab, "A11", Level.CATALOG, service, f"the user {user.name} is disabled", fix)
        elif not cloud.password_holds(there["id"], user.password):
            text = f"the password of the user {user.name} differs from the lab's secret"
            yield _finding(lab, "A11", Level.CATALOG, service, text, again=user)


def _owner(user: str) -> str:
    return "heat" if user.startswith("heat") else user


def _grants(lab: Lab, cloud: Cloud, wanted: list[openstack.Grant]) -> Iterator[Finding]:
    rows = cloud.get("identity", "/role_assignments?include_names")["role_assignments"]
    there = set()
    for row in rows:
        scope = row["scope"]
        where = scope["project"]["name"] if "project" in scope else scope.get("domain", {}).get("name", "")
        if "user" in row:
            there.add((row["role"]["name"].lower(), row["user"]["name"], where))
    for grant in wanted:
        if (grant.role.lower(), grant.user, grant.project or grant.domain) not in there:
            row = "A40" if not grant.project else "A13"
            yield _finding(lab, row, Level.CATALOG, _owner(grant.user), f"not so: {grant.title}", again=grant)


def _computes(lab: Lab, cloud: Cloud, wanted: list[openstack.ComputeHosts]) -> Iterator[Finding]:
    rows = [r for r in cloud.get("compute", "/os-services")["services"] if r["binary"] == "nova-compute"]
    hosts = {host for operation in wanted for host in operation.hosts}
    for host in sorted(hosts):
        mine = [r for r in rows if r["host"] == host]
        if not mine:
            yield _finding(lab, "A19", Level.AGENT, "nova", f"nova does not know nova-compute on {host}")
        elif mine[0]["status"] != "enabled":
            fix = f"openstack compute service set --enable {host} nova-compute"
            yield _finding(lab, "B21", Level.AGENT, "nova", f"nova-compute on {host} is disabled", fix)
        elif mine[0]["state"] != "up":
            fix = _restart(lab, host, "nova-compute")
            yield _finding(lab, "A19", Level.AGENT, "nova", f"nova-compute on {host} is down", fix)
    for row in rows:
        if row["host"] not in hosts and row["host"] not in lab.spec.later:
            gone = openstack.ComputeServiceGone(row["host"])
            text = f"nova-compute under a host name that is no node of the lab: {row['host']}"
            if row["state"] == "up":
                yield _finding(lab, "L9", Level.AGENT, "nova", text, gone.guide())
            else:
                yield _finding(lab, "L9", Level.AGENT, "nova", text, again=gone)


def _agents(lab: Lab, cloud: Cloud, wanted: list[openstack.AgentsAlive]) -> Iterator[Finding]:
    rows = cloud.get("network", "/v2.0/agents")["agents"]
    there = {(r["binary"], r["host"]): r for r in rows}
    for binary, host in (agent for operation in wanted for agent in operation.agents):
        row = there.get((binary, host))
        fix = _restart(lab, host, binary)
        if row is None:
            yield _finding(lab, "A24", Level.AGENT, "neutron", f"neutron does not know {binary} on {host}", fix)
        elif not row["alive"]:
            yield _finding(lab, "A24", Level.AGENT, "neutron", f"{binary} on {host} is not alive", fix)
        elif not row["admin_state_up"]:
            fix = f"openstack network agent set --enable {row['id']}"
            yield _finding(lab, "A24", Level.AGENT, "neutron", f"{binary} on {host} is disabled", fix)


def _states(lab: Lab, cloud: Cloud, wanted: list[openstack.ServicesUp]) -> Iterator[Finding]:
    for operation in wanted:
        path = "/services" if operation.type == "orchestration" else "/os-services"
        rows = cloud.get(operation.type, path)["services"]
        up = {(r["binary"], r["host"]) for r in rows if (r.get("state") or r.get("status")) == "up"}
        for binary, host in operation.services:
            if (binary, host) not in up:
                row = "A30" if binary == "cinder-volume" else "B63"
                fix = _restart(lab, host.partition("@")[0], binary)
                service = _SERVICE_OF[operation.type]
                yield _finding(lab, row, Level.AGENT, service, f"{binary} on {host} is not up", fix)


def _flavors(lab: Lab, cloud: Cloud, wanted: list[openstack.FlavorEntry]) -> Iterator[Finding]:
    there = {f["name"] for f in cloud.get("compute", "/flavors?is_public=None")["flavors"]}
    for flavor in wanted:
        if flavor.name not in there:
            yield _finding(lab, "L5", Level.GUEST, "nova", f"no flavor {flavor.name}", again=flavor)


def _images(lab: Lab, cloud: Cloud, wanted: list[openstack.GuestImageUpload]) -> Iterator[Finding]:
    for image in wanted:
        rows = cloud.get("image", f"/v2/images?name={image.name}")["images"]
        if not any(row["status"] == "active" for row in rows):
            state = rows[0]["status"] if rows else "missing"
            yield _finding(lab, "A15", Level.GUEST, "glance", f"the image {image.name} is {state}")


def _gateways(lab: Lab, cloud: Cloud, wanted: list[SelfServiceNetwork]) -> Iterator[Finding]:
    routers = cloud.get("network", "/v2.0/routers")["routers"]
    for network in wanted:
        for router in (r for r in routers if r["name"] == network.router):
            if not router["external_gateway_info"]:
                fix = f"openstack router set --external-gateway {network.external} {network.router}"
                yield _finding(lab, "B43", Level.GUEST, "neutron", f"the router {router['name']} has no gateway", fix)


def _refused(lab: Lab, cloud: Cloud, wanted: list[openstack.ComputeHosts]) -> Iterator[Finding]:
    """Servers for which the scheduler found no host, and why: nova itself says only that."""
    servers = cloud.get("compute", "/servers/detail?all_tenants=1&status=ERROR")["servers"]
    # a list has no faults of servers that reached no cell
    servers = [s if "fault" in s else cloud.get("compute", f"/servers/{s['id']}")["server"] for s in servers]
    refused = [s for s in servers if "No valid host" in s.get("fault", {}).get("message", "")]
    if not refused:
        return
    hosts = cloud.get("compute", "/os-hypervisors/detail")["hypervisors"]
    flavors = {f["id"]: f for f in cloud.get("compute", "/flavors/detail?is_public=None")["flavors"]}
    for server in refused:
        named = server["flavor"]  # since microversion 2.47 the flavor itself
        flavor = flavors.get(named.get("id", ""), named)
        fix = f"openstack server delete {server['id']}"
        text = f"no host for the server {server['name']}: {why_no_host(flavor, hosts)}"
        yield _finding(lab, "B21", Level.GUEST, "nova", text, fix)


#: What a flavor asks for, what a hypervisor has in all, how that is called, and how often nova gives it away
#: (initial_allocation_ratio of cpu, ram and disk).
_SIZES = (
    ("vcpus", "vcpus", "vCPUs", 16),
    ("ram", "memory_mb", "MiB of memory", 1.5),
    ("disk", "local_gb", "GB of disk", 1),
)


def why_no_host(flavor: dict[str, Any], hosts: list[dict[str, Any]]) -> str:
    """The cause of a scheduler's "No valid host": what the largest host lacks, or that there is none."""
    ready = [h for h in hosts if h["status"] == "enabled" and h["state"] == "up"]
    if not ready:
        return "no nova-compute is up and enabled"
    for size, total, unit, ratio in _SIZES:
        largest = max((h.get(total) or 0) for h in ready)
        if largest and flavor.get(size, 0) > largest * ratio:
            return f"its flavor wants {flavor[size]} {unit}, and the largest host has {largest}"
    return "the hosts are full, in another availability zone, or lack what the image or flavor demands"


def _closed(lab: Lab, cloud: Cloud, wanted: list[openstack.AgentsAlive]) -> Iterator[Finding]:
    """Security groups without a rule on ports that have no other."""
    groups = {g["id"]: g for g in cloud.get("network", "/v2.0/security-groups")["security_groups"]}
    empty = {name for name, group in groups.items() if not group["security_group_rules"]}
    if not empty:
        return
    ports = cloud.get("network", "/v2.0/ports")["ports"]
    used = [set(p["security_groups"]) for p in ports if p["security_groups"] and set(p["security_groups"]) <= empty]
    for name in sorted(set().union(*used)):
        fix = f"openstack security group rule create --proto icmp {name}"
        text = f"the security group {groups[name]['name']} has no rule: its ports are cut off"
        yield _finding(lab, "L10", Level.GUEST, "neutron", text, fix)


def _policies(lab: Lab, cloud: Cloud, wanted: list[openstack.ArchivePolicy]) -> Iterator[Finding]:
    """Archive policies: without theirs all samples are refused."""
    there = {row["name"]: row for row in cloud.rows("metric", "/v1/archive_policy")}
    for policy in wanted:
        if policy.name not in there:
            yield _finding(lab, "L5", Level.SERVICE, "gnocchi", f"no archive policy {policy.name}", again=policy)
        elif missing := set(policy.methods) - set(there[policy.name]["aggregation_methods"]):
            text = f"the archive policy {policy.name} lacks {', '.join(sorted(missing))}"
            yield _finding(lab, "L5", Level.SERVICE, "gnocchi", text)


def _uptime(lab: Lab, node: str) -> float:
    """Seconds since a node started; what is older than that says nothing about what runs on it."""
    try:
        with lab.connect(node) as session:
            return float(session.run("ps -o etimes= -p 1", timeout=30).stdout)
    except (LabError, ValueError):
        return math.inf


#: So many measures that wait for metricd are more than a lab's agents send in an interval.
_BACKLOG = 500


def _measures(lab: Lab, cloud: Cloud, wanted: list[openstack.MeasuresArrive]) -> Iterator[Finding]:
    """Whether what agents measure arrives, and is worked through."""
    host, logs = lab.context.host(Component.CEILOMETER), f"labctl logs {lab.name} ceilometer"
    if not any(row["name"] == "instance" for row in cloud.rows("metric", "/v1/resource_type")):
        # not by `labctl up`, which has run it once
        fix = f"labctl ssh {lab.name} {host} -- su -s /bin/sh -c ceilometer-upgrade ceilometer"
        yield _finding(lab, "L14", Level.SERVICE, "ceilometer", "gnocchi has no resource type instance", fix)
        return
    waiting = cloud.get("metric", "/v1/status?details=false")["storage"]["summary"]["measures"]
    if waiting > _BACKLOG:
        fix = _restart(lab, lab.context.host(Component.GNOCCHI), "gnocchi-metricd")
        yield _finding(lab, "L13", Level.AGENT, "gnocchi", f"{waiting} measures wait for metricd", fix)
    for measure in wanted:
        age = cloud.measured(measure)
        if age is None:
            yield _finding(lab, "L12", Level.AGENT, "ceilometer", f"no measure of {measure.metric}", logs)
        elif age > (late := MISSED * measure.interval) and _uptime(lab, host) > late:
            text = (
                f"the newest measure of {measure.metric} is {age:.0f} s old; agents measure every {measure.interval} s"
            )
            yield _finding(lab, "L12", Level.AGENT, "ceilometer", text, _restart(lab, host, "ceilometer-notification"))


#: The kinds of operation that questions are about, whom they ask, and the questions.
_QUESTIONS: tuple[tuple[type, str, Callable[[Lab, Cloud, list[Any]], Iterator[Finding]]], ...] = (
    (openstack.CatalogEntry, "keystone", _catalog),
    (openstack.User, "keystone", _accounts),
    (openstack.Grant, "keystone", _grants),
    (openstack.ComputeHosts, "nova", _computes),
    (openstack.ComputeHosts, "nova", _refused),
    (openstack.AgentsAlive, "neutron", _agents),
    (openstack.AgentsAlive, "neutron", _closed),
    (openstack.ServicesUp, "nova", _states),
    (openstack.FlavorEntry, "nova", _flavors),
    (openstack.GuestImageUpload, "glance", _images),
    (SelfServiceNetwork, "neutron", _gateways),
    (openstack.ArchivePolicy, "gnocchi", _policies),
    (openstack.MeasuresArrive, "gnocchi", _measures),
)
