"""Rules about what runs where: duplicate components and missing dependencies."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.components import COMPONENTS
from labctl.components import Component as C
from labctl.releases import RELEASES
from labctl.releases.model import Placement
from labctl.topology.model import Join, Topology
from labctl.topology.problems import Positions, Problem


def joining_obstacle(component: C) -> str | None:
    """Why a component cannot join a running lab with a node, or None."""
    if component is C.SWIFT_STORAGE:
        return "swift's rings are built once, from the initial storage nodes, and would have to be rebuilt"
    if not COMPONENTS[component].joins:
        return "the catalog and other nodes are set up with it from the start"
    return None


def components_are_not_doubled(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A component is named once per node, and once per lab if a lab has only one."""
    first: dict[C, str] = {}
    for name, node in topology.nodes.items():
        seen: set[C] = set()
        for i, component in enumerate(node.runs):
            path = ("nodes", name, "runs", i)
            if component in seen:
                yield at.problem(path, f"{component} is named twice on this node")
            elif COMPONENTS[component].once and first.setdefault(component, name) != name:
                yield at.problem(path, f"{component} already runs on node '{first[component]}'; a lab has only one")
            seen.add(component)


def needed_components_run_somewhere(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Everything a component needs runs in the lab, from the start or on its own node that joins later.

    Reported once per component, where it is first named.
    """
    named = {component for node in topology.nodes.values() for component in node.runs}
    running = {c for node in topology.nodes.values() if node.join is Join.START for c in node.runs}
    absent = set() if _has_placement(topology) else {C.PLACEMENT}
    seen: set[C] = set()
    for name, node in topology.nodes.items():
        here = running | set(node.runs) | absent
        for i, component in enumerate(node.runs):
            missing = [c for c in COMPONENTS[component].needs if c not in here]
            if missing and component not in seen:
                words = " and ".join(missing) if len(missing) < 3 else ", ".join(missing)
                start = " from the start" if named.intersection(missing) else ""
                yield at.problem(
                    ("nodes", name, "runs", i), f"{component} needs {words}, which no node of the lab runs{start}"
                )
            seen.add(component)


def needed_components_run_beside(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The layer-2 agent runs on every node that has ports to plug."""
    for name, node in topology.nodes.items():
        for component in dict.fromkeys(node.runs):
            for needed in COMPONENTS[component].beside:
                if needed not in node.runs:
                    yield at.problem(
                        ("nodes", name, "runs", node.runs.index(component)),
                        f"{component} needs {needed} on the same node; add it to runs",
                    )


def _has_placement(topology: Topology) -> bool:
    """False with a release that has no placement service (introduced in Newton)."""
    release = RELEASES.get(topology.release)
    return release is None or release.placement is not Placement.NONE


def placement_exists_in_the_release(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A release without placement cannot run it."""
    if _has_placement(topology):
        return
    for name, node in topology.nodes.items():
        if C.PLACEMENT in node.runs:
            yield at.problem(
                ("nodes", name, "runs", node.runs.index(C.PLACEMENT)),
                f"{topology.release} has no placement service; remove it from runs",
            )


#: The components of telemetry, each with its project.
TELEMETRY = {C.GNOCCHI: "gnocchi", C.CEILOMETER: "ceilometer", C.CEILOMETER_COMPUTE: "ceilometer", C.AODH: "aodh"}


def telemetry_exists_in_the_release(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Telemetry's projects are known for the release, wherever it is installed from."""
    release = RELEASES.get(topology.release)
    if release is None:
        return
    sources = {release.bases[base] for base in topology.bases if base in release.bases}
    known = [other.name for other in RELEASES.values() if any(other.has("gnocchi", s) for s in other.versions)]
    for name, node in topology.nodes.items():
        for i, component in enumerate(node.runs):
            project = TELEMETRY.get(component)
            if project and not all(release.has(project, source) for source in sources):
                yield at.problem(
                    ("nodes", name, "runs", i),
                    f"labctl has no recipe for {component} of {topology.release}; telemetry is known for "
                    f"{', '.join(known)}",
                )


def every_guest_is_measured(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Where there is telemetry, an agent runs beside each nova-compute: guests of others would have no measures."""
    if not any(C.CEILOMETER in node.runs for node in topology.nodes.values()):
        return
    for name, node in topology.nodes.items():
        if C.NOVA_COMPUTE in node.runs and C.CEILOMETER_COMPUTE not in node.runs:
            yield at.problem(
                ("nodes", name, "runs", node.runs.index(C.NOVA_COMPUTE)),
                "the lab runs ceilometer, but nobody measures the guests of this node; add ceilometer-compute to runs",
            )


def a_node_is_there_from_the_start(topology: Topology, at: Positions) -> Iterator[Problem]:
    """At least one node is part of the lab from the start."""
    if all(node.join is Join.LATER for node in topology.nodes.values()):
        yield at.problem(("nodes",), "every node joins later; at least one must be there from the start")


def later_nodes_run_what_can_join(topology: Topology, at: Positions) -> Iterator[Problem]:
    """A node that joins a running lab runs only components that can join."""
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
    telemetry_exists_in_the_release,
    every_guest_is_measured,
    a_node_is_there_from_the_start,
    later_nodes_run_what_can_join,
)
