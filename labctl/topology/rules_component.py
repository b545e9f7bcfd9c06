"""Rules about what runs where: doubled components and components that something else needs."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.topology.model import Component as C
from labctl.topology.model import Join, Topology
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

#: What a node may bring into a running lab and take out of it again: nothing of it stands in the catalog, in a
#: database of its own or in the configuration of other nodes' services.
CAN_JOIN = (C.NOVA_COMPUTE, C.NEUTRON_L2, C.CINDER_VOLUME, C.ETCD, C.MEMCACHED)

#: Releases whose nova has no placement service at all (it came with Newton).
WITHOUT_PLACEMENT = frozenset({"mitaka"})


def joining_obstacle(component: C) -> str | None:
    """Why a component cannot come into a running lab with a node, or None."""
    if component is C.SWIFT_STORAGE:
        return "swift's rings are built once, from the storage nodes there are, and would have to be built anew"
    if component not in CAN_JOIN:
        return "the catalog and other nodes are set up with it from the start"
    return None


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
    """Everything a component needs runs in the lab, from the start or on its own node that joins later.

    Said once a component, where it is first named.
    """
    named = {component for node in topology.nodes.values() for component in node.runs}
    running = {c for node in topology.nodes.values() if node.join is Join.START for c in node.runs}
    absent = {C.PLACEMENT} if topology.release in WITHOUT_PLACEMENT else set()
    seen: set[C] = set()
    for name, node in topology.nodes.items():
        for i, component in enumerate(node.runs):
            missing = [c for c in NEEDS.get(component, ()) if c not in running | set(node.runs) | absent]
            if missing and component not in seen:
                words = " and ".join(missing) if len(missing) < 3 else ", ".join(missing)
                start = " from the start" if named.intersection(missing) else ""
                yield at.problem(
                    ("nodes", name, "runs", i), f"{component} needs {words}, and no node of the lab runs that{start}"
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


def a_node_is_there_from_the_start(topology: Topology, at: Positions) -> Iterator[Problem]:
    """There is a lab that nodes can join."""
    if all(node.join is Join.LATER for node in topology.nodes.values()):
        yield at.problem(("nodes",), "every node joins later; at least one is there from the start")


def later_nodes_run_what_can_join(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node that joins a running lab brings nothing that the lab had to be set up with."""
    for name, node in topology.nodes.items():
        if node.join is Join.LATER:
            for i, component in enumerate(node.runs):
                if reason := joining_obstacle(component):
                    yield at.problem(("nodes", name, "runs", i), f"{component} cannot join later: {reason}")


RULES = (
    components_are_not_doubled,
    needed_components_run_somewhere,
    needed_components_run_beside,
    placement_exists_in_the_release,
    a_node_is_there_from_the_start,
    later_nodes_run_what_can_join,
)
