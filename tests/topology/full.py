"""A lab of every component but telemetry's with nothing wrong, for tests to break in one place; what is found wrong."""

from __future__ import annotations

from typing import Any

import yaml

from labctl.topology.load import TopologyError, parse

Lab = dict[str, Any]

CONTROLLER = [
    "mariadb",
    "rabbitmq",
    "memcached",
    "keystone",
    "glance",
    "placement",
    "nova-controller",
    "neutron-server",
    "neutron-l2",
    "neutron-l3",
    "neutron-dhcp",
    "neutron-metadata",
    "cinder-controller",
    "swift-proxy",
    "heat",
    "horizon",
    "etcd",
]


def full() -> Lab:
    """A lab of every component but telemetry's, with nothing wrong."""
    return {
        "name": "full",
        "release": "zed",
        "bases": ["debian12"],
        "drivers": ["nspawn", "libvirt"],
        "networks": {
            "management": {"cidr": "10.0.0.0/24", "gateway": "10.0.0.1"},
            "overlay": {"cidr": "10.0.1.0/24"},
            "provider": {"cidr": "203.0.113.0/24", "pool": "203.0.113.101-203.0.113.250"},
        },
        "nodes": {
            "controller": {
                "memory": "4 GiB",
                "networks": {"management": "10.0.0.11", "overlay": "10.0.1.11", "provider": "none"},
                "runs": list(CONTROLLER),
            },
            "compute": {
                "networks": {"management": "10.0.0.31", "overlay": "10.0.1.31", "provider": "none"},
                "runs": ["nova-compute", "neutron-l2"],
            },
            "storage": {
                "networks": {"management": "10.0.0.41"},
                "disks": {"cinder": "8 GiB", "swift1": "2 GiB"},
                "runs": ["cinder-volume", "swift-storage"],
            },
        },
    }


def measured(lab: Lab) -> Lab:
    """The lab with telemetry, which only some releases have, and with Redis for it."""
    node(lab)["runs"] += ["redis", "gnocchi", "ceilometer", "aodh"]
    node(lab, "compute")["runs"].append("ceilometer-compute")
    return lab


def said(lab: Lab) -> list[str]:
    """The problems of a lab, each as ``path: message``."""
    try:
        parse(yaml.safe_dump(lab, sort_keys=False), "f")
    except TopologyError as error:
        return [f"{p.path}: {p.message}" for p in error.problems]
    return []


def the_one(lab: Lab) -> str:
    problems = said(lab)
    assert len(problems) == 1, problems
    return problems[0]


def node(lab: Lab, name: str = "controller") -> Lab:
    found: Lab = lab["nodes"][name]
    return found
