"""Rules about what runs where: doubled components and components that something else needs."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.topology.model import Component as C
from labctl.topology.model import Topology
from labctl.topology.problems import Positions, Problem

#: Components a lab has at most once: none of them is set up for high availability.
ONCE = (
    C.MARIADB, C.RABBITMQ, C.MEMCACHED, C.ETCD, C.KEYSTONE, C.GLANCE, C.PLACEMENT, C.NOVA_CONTROLLER,
    C.NEUTRON_SERVER, C.NEUTRON_L3, C.NEUTRON_DHCP, C.NEUTRON_METADATA, C.CINDER_CONTROLLER, C.SWIFT_PROXY,
    C.HEAT, C.HORIZON,
)  # fmt: skip

#: What must run somewhere in the lab for a component to work.
NEEDS: dict[C, tuple[C, ...]] = {
    C.KEYSTONE: (C.MARIADB, C.MEMCACHED),
    C.GLANCE: (C.KEYSTONE, C.MARIADB),
    C.PLACEMENT: (C.KEYSTONE, C.MARIADB),
    C.NOVA_CONTROLLER: (C.KEYSTONE, C.GLANCE, C.PLACEMENT, C.RABBITMQ, C.MARIADB, C.NEUTRON_SERVER),
    C.NOVA_COMPUTE: (C.NOVA_CONTROLLER,),
    C.NEUTRON_SERVER: (C.KEYSTONE, C.RABBITMQ, C.MARIADB),
    C.NEUTRON_L2: (C.NEUTRON_SERVER,),
    C.NEUTRON_L3: (C.NEUTRON_SERVER,),
    C.NEUTRON_DHCP: (C.NEUTRON_SERVER,),
    C.NEUTRON_METADATA: (C.NEUTRON_SERVER, C.NOVA_CONTROLLER),
    C.CINDER_CONTROLLER: (C.KEYSTONE, C.RABBITMQ, C.MARIADB, C.GLANCE, C.CINDER_VOLUME),
    C.CINDER_VOLUME: (C.CINDER_CONTROLLER,),
    C.SWIFT_PROXY: (C.KEYSTONE, C.MEMCACHED, C.SWIFT_STORAGE),
    C.SWIFT_STORAGE: (C.SWIFT_PROXY,),
    C.HEAT: (C.KEYSTONE, C.RABBITMQ, C.MARIADB),
    C.HORIZON: (C.KEYSTONE, C.MEMCACHED),
}

#: What must run on the very node, because it plugs the component's ports.
BESIDE: dict[C, tuple[C, ...]] = {
    C.NOVA_COMPUTE: (C.NEUTRON_L2,),
    C.NEUTRON_L3: (C.NEUTRON_L2,),
    C.NEUTRON_DHCP: (C.NEUTRON_L2,),
}

#: Releases whose nova has no placement service at all (it came with Newton).
WITHOUT_PLACEMENT = frozenset({"mitaka"})


def components_are_not_doubled(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A component is named once a node, and once in the lab where a lab has only one of it."""
    first: dict[C, str] = {}
    for name, node in topology.nodes.items():
        for i, component in enumerate(node.runs):
            path = ("nodes", name, "runs", i)
            if component in node.runs[:i]:
                yield at.problem(path, f"{component} is named twice on this node")
            elif component in ONCE and first.setdefault(component, name) != name:
                yield at.problem(path, f"{component} already runs on node '{first[component]}'; only once")


def needed_components_run_somewhere(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Everything a component needs runs in the lab. Said once a component, where it is first named."""
    running = {component for node in topology.nodes.values() for component in node.runs}
    absent = {C.PLACEMENT} if topology.release in WITHOUT_PLACEMENT else set()
    seen: set[C] = set()
    for name, node in topology.nodes.items():
        for i, component in enumerate(node.runs):
            missing = [c for c in NEEDS.get(component, ()) if c not in running and c not in absent]
            if missing and component not in seen:
                words = " and ".join(missing) if len(missing) < 3 else ", ".join(missing)
                yield at.problem(
                    ("nodes", name, "runs", i), f"{component} needs {words}, and no node of the lab runs that"
                )
            seen.add(component)


def needed_components_run_beside(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The layer-2 agent runs on every node that has ports to plug."""
    for name, node in topology.nodes.items():
        for component in dict.fromkeys(node.runs):
            for needed in BESIDE.get(component, ()):
                if needed not in node.runs:
                    yield at.problem(
                        ("nodes", name, "runs", node.runs.index(component)),
                        f"{component} needs {needed} on the same node; add it to runs",
                    )


def placement_exists_in_the_release(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A release without placement cannot run it."""
    if topology.release not in WITHOUT_PLACEMENT:
        return
    for name, node in topology.nodes.items():
        if C.PLACEMENT in node.runs:
            yield at.problem(
                ("nodes", name, "runs", node.runs.index(C.PLACEMENT)),
                f"{topology.release} has no placement service; take it out of runs",
            )


RULES = (
    components_are_not_doubled,
    needed_components_run_somewhere,
    needed_components_run_beside,
    placement_exists_in_the_release,
)
