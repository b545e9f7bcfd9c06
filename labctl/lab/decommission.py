"""Decommission a host in OpenStack's services: list what is on it, disable it, delete it."""

from __future__ import annotations

from labctl.components import Component
from labctl.engine.client import Json
from labctl.engine.cloud import Cloud
from labctl.operations import openstack
from labctl.topology.spec import NodeSpec


def occupants(cloud: Cloud, node: NodeSpec) -> list[str]:
    """Servers and volumes of all projects on a host, as text."""
    found: list[str] = []
    if node.has(Component.NOVA_COMPUTE):
        servers = cloud.get("compute", f"/servers/detail?all_tenants=1&host={node.name}")["servers"]
        found += [f"server {s['name']} ({s['id']}, {s['status']})" for s in servers]
    if node.has(Component.CINDER_VOLUME):
        volumes = cloud.get("volumev3", "/volumes/detail?all_tenants=1")["volumes"]
        found += [
            f"volume {v['name'] or 'unnamed'} ({v['id']}, {v['status']})"
            for v in volumes
            if (v["os-vol-host-attr:host"] or "").partition("@")[0] == node.name
        ]
    return found


def disable(cloud: Cloud, node: NodeSpec) -> list[tuple[str, Json]]:
    """Exclude a host from scheduling; returns what :func:`enable` enables again."""
    done: list[tuple[str, Json]] = []
    for kind, binary, row in _services(cloud, node):
        if row["status"] == "enabled":
            done.append((kind, {"binary": binary, "host": row["host"]}))
            cloud.put(kind, "/os-services/disable", done[-1][1])
    return done


def enable(cloud: Cloud, disabled: list[tuple[str, Json]]) -> None:
    """Enable services for scheduling again."""
    for kind, service in disabled:
        cloud.put(kind, "/os-services/enable", service)


def forget(cloud: Cloud, node: NodeSpec) -> list[tuple[str, str]]:
    """Delete the agents and services of a host whose daemons have stopped: running ones would register again.

    :returns: (binary, host) of services that their API cannot delete: cinder's.
    """
    if node.has(Component.NEUTRON_L2):
        for agent in cloud.get("network", f"/v2.0/agents?host={node.name}")["agents"]:
            cloud.delete("network", f"/v2.0/agents/{agent['id']}")
    left: list[tuple[str, str]] = []
    for kind, binary, row in _services(cloud, node):
        if kind == "compute":
            cloud.run(openstack.ComputeServiceGone(node.name))
        else:
            left.append((binary, row["host"]))
    return left


def _services(cloud: Cloud, node: NodeSpec) -> list[tuple[str, str, Json]]:
    """(service type, binary, row) of the scheduled services of a host; cinder's are called HOST@BACKEND."""
    return [
        (kind, binary, row)
        for component, kind, binary in (
            (Component.NOVA_COMPUTE, "compute", "nova-compute"),
            (Component.CINDER_VOLUME, "volumev3", "cinder-volume"),
        )
        if node.has(component)
        for row in cloud.get(kind, f"/os-services?binary={binary}")["services"]
        if row["host"].partition("@")[0] == node.name
    ]
