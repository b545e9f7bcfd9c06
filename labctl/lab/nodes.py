"""Add nodes to a running lab and remove them; the caller holds the lab's lock.

A node joins by becoming part of the lab's recorded spec, to which the lab then converges as with
``labctl up``: what is already right on the other nodes stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Any, TypeVar

from keystoneauth1.exceptions import ClientException

from labctl.components import Component
from labctl.engine.capacity import check_resources
from labctl.engine.cloud import Cloud, ask
from labctl.engine.converge import Summary
from labctl.errors import BrokenLabError, LabError
from labctl.lab import decommission
from labctl.lab.up import converge
from labctl.operations.node import quote
from labctl.progress import note, step
from labctl.records.lab import Lab
from labctl.services.nova import MAPPED
from labctl.topology.join import joined, joined_like, left
from labctl.topology.model import Join
from labctl.topology.spec import NodeSpec

T = TypeVar("T")


def rows(name: str) -> list[dict[str, Any]]:
    """Every node of a lab, including those that join later, and how each joined.

    :raises LabError: there is no such lab.
    """
    lab = Lab.load(name)

    def row(node: NodeSpec, machine: str) -> dict[str, Any]:
        origin = f"like {node.like}" if node.like else node.join.value
        return {
            "node": node.name,
            "state": machine,
            "address": str(lab.spec.address(node)),
            "joined": origin,
            "runs": " ".join(node.runs),
        }

    there = [row(node, lab.driver.machine(lab, node.name).state) for node in lab.spec.nodes.values()]
    return there + [row(node, "not added") for node in lab.spec.later.values()]


def add(name: str, node_name: str, *, like: str | None = None, addresses: Mapping[str, IPv4Address]) -> Summary:
    """Add a node to a running lab, or resume an unfinished join.

    :param like: copy this node; else the lab's topology must define the node as joining later.
    :param addresses: of a copy, by network; default: the next free ones.
    :raises LabError: the node cannot join, the lab is not up, or a step failed.
    """
    lab = Lab.load(name)
    lab.driver.probe()
    last = lab.plan.stages[-1].name
    begun = lab.spec.nodes.get(node_name)
    if begun is not None and begun.join is Join.LATER and lab.journal().record(last) is None:
        note(node_name, "resuming the join")
        return _converge(lab, f"labctl node add {name} {node_name}")
    spec = joined_like(lab.spec, node_name, like, addresses) if like else joined(lab.spec, node_name)
    _require_running(lab, list(lab.spec.nodes))
    if lab.journal().record(last) is None:
        raise LabError(f"{name} is not up: stage {last} has not finished", lab.up())
    check_resources(spec, set(lab.spec.nodes), lab.directory)
    lab.spec = spec
    lab.save()
    return _converge(lab, f"labctl node add {name} {node_name}")


def remove(name: str, node_name: str) -> Summary:
    """Remove a joined node from its lab: its machine, and its entries in the services.

    :raises LabError: the node did not join later, holds servers or volumes, or the lab is not up.
    """
    lab = Lab.load(name)
    lab.driver.probe()
    spec = left(lab.spec, node_name)
    node = lab.spec.nodes[node_name]
    _require_running(lab, list(spec.nodes))
    known_to_services = lab.spec.has(Component.KEYSTONE) and node.has(
        Component.NOVA_COMPUTE, Component.NEUTRON_L2, Component.CINDER_VOLUME
    )
    if known_to_services:

        def empty(cloud: Cloud) -> list[str]:
            # first, so that nothing is scheduled meanwhile; nova calls the host itself, and a dead one causes delays
            disabled = decommission.disable(cloud, node) if lab.driver.machine(lab, node_name).running else []
            found = decommission.occupants(cloud, node)
            if found:
                decommission.enable(cloud, disabled)
            return found

        if found := _ask(lab, empty):
            raise LabError(
                f"{node_name} of {name} still holds " + ", ".join(found),
                f"labctl exec {name} -- openstack server delete ID; labctl exec {name} -- openstack volume delete ID",
            )
    with step(node_name, "remove the machine"):
        if stuck := lab.driver.destroy(lab, node_name):
            raise LabError(
                f"could not remove all of {node_name}: {', '.join(stuck)}", f"labctl node remove {name} {node_name}"
            )
    if known_to_services:
        with step(node_name, "delete its services and agents"):
            _forget(lab, node)
    lab.spec = spec  # its key stays: a snapshot may bring the machine back
    lab.driver.create_network(lab)  # updates the names in its namespace
    lab.save()
    return _converge(lab, lab.up())


def _converge(lab: Lab, command: str) -> Summary:
    """Converge the lab to its new spec; an error names the command that resumes."""
    try:
        return converge(lab)
    except LabError as error:
        raise LabError(error.message, error.hint or f"{command} continues") from error


def _forget(lab: Lab, node: NodeSpec) -> None:
    """Delete a host's entries in the services; without an API, by the service's tool on its node."""
    by_tool = _ask(lab, lambda cloud: decommission.forget(cloud, node))
    commands = [
        (Component.CINDER_CONTROLLER, f'su -s /bin/sh -c "cinder-manage service remove {binary} {host}" cinder')
        for binary, host in by_tool
    ]
    if node.has(Component.NOVA_COMPUTE):
        commands.append((Component.NOVA_CONTROLLER, f"rm -f {quote(MAPPED + node.name)}"))
    for component, command in commands:
        host = lab.spec.host_of(component).name
        with lab.driver.connect(lab, host, 20) as session:
            done = session.run(command, timeout=120)
        if done.status != 0:
            raise LabError(
                f"{host}: {command} exited with status {done.status}:\n{(done.stderr or done.stdout).strip()[-2000:]}",
                f"labctl node remove {lab.name} {node.name}",
            )


def _ask(lab: Lab, question: Callable[[Cloud], T]) -> T:
    """Query the lab's APIs as admin.

    :raises LabError: they do not answer, or refuse.
    """
    try:
        return ask(lab, lab.secrets(), question)
    except ClientException as error:
        raise BrokenLabError(f"{lab.name}: {type(error).__name__}: {error}", f"labctl status {lab.name}") from error


def _require_running(lab: Lab, names: list[str]) -> None:
    stopped = [n for n in names if lab.driver.machine(lab, n).state != "running"]
    if stopped:
        verb = "is" if len(stopped) == 1 else "are"
        raise BrokenLabError(f"{lab.name} is not up: {' and '.join(stopped)} {verb} not running", lab.up())
