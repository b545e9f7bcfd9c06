"""Nodes that join a running lab and leave it again; the caller holds the lab's lock.

A node joins by becoming part of the lab's recorded spec, to which the lab then converges as it does by
``labctl up``: what is as it should be on the other nodes stays untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Any, TypeVar

from keystoneauth1.exceptions import ClientException

from labctl import drivers
from labctl.drivers.base import Driver
from labctl.engine import inside, leave
from labctl.engine.api import Cloud
from labctl.engine.execute import Summary, check_resources
from labctl.errors import BrokenLabError, LabError
from labctl.lab.state import LabState
from labctl.lab.up import converge
from labctl.plan.operations import quote
from labctl.plan.planner import plan
from labctl.progress import note, step
from labctl.services.nova import MAPPED
from labctl.topology.join import joined, joined_like, left
from labctl.topology.model import Component, Join
from labctl.topology.spec import NodeSpec

T = TypeVar("T")


def rows(lab: str) -> list[dict[str, Any]]:
    """Every node of a lab and every one that its topology names for later, with how it came into the lab.

    :raises LabError: there is no such lab.
    """
    state = LabState.load(lab)
    driver = drivers.get(state.spec.driver)

    def row(node: NodeSpec, machine: str) -> dict[str, Any]:
        origin = f"like {node.like}" if node.like else node.join.value
        return {
            "node": node.name,
            "state": machine,
            "address": str(state.spec.address(node)),
            "joined": origin,
            "runs": " ".join(node.runs),
        }

    there = [row(node, driver.machine(state, node.name).state) for node in state.spec.nodes.values()]
    return there + [row(node, "not added") for node in state.spec.later.values()]


def add(lab: str, name: str, *, like: str | None = None, addresses: Mapping[str, IPv4Address]) -> Summary:
    """Bring a node into a running lab, or go on with one that did not come to its end.

    :param like: copy this node; else the lab's topology must name the node for later.
    :param addresses: of a copy, by network; the next free ones where none is given.
    :raises LabError: the node cannot join, the lab is not up, or what failed on the way.
    """
    state = LabState.load(lab)
    driver = drivers.get(state.spec.driver)
    driver.probe()
    last = plan(state.spec).stages[-1].name
    begun = state.spec.nodes.get(name)
    if begun is not None and begun.join is Join.LATER and state.journal().record(last) is None:
        note(name, "goes on joining")
        return _converge(state, driver, f"labctl node add {lab} {name}")
    spec = joined_like(state.spec, name, like, addresses) if like else joined(state.spec, name)
    _require_running(state, driver, list(state.spec.nodes))
    if state.journal().record(last) is None:
        raise LabError(f"{lab} is not up: it has not come to the end of stage {last}", state.up())
    check_resources(spec, set(state.spec.nodes), state.directory)
    state.spec = spec
    state.save()
    return _converge(state, driver, f"labctl node add {lab} {name}")


def remove(lab: str, name: str) -> Summary:
    """Take a node that had joined out of its lab: from the services that know it, then the machine itself.

    :raises LabError: the node was there from the start, servers or volumes lie on it, or the lab is not up.
    """
    state = LabState.load(lab)
    driver = drivers.get(state.spec.driver)
    driver.probe()
    spec = left(state.spec, name)
    node = state.spec.nodes[name]
    _require_running(state, driver, list(spec.nodes))
    known_to_services = state.spec.has(Component.KEYSTONE) and node.has(
        Component.NOVA_COMPUTE, Component.NEUTRON_L2, Component.CINDER_VOLUME
    )
    if known_to_services:

        def empty(cloud: Cloud) -> list[str]:
            # first, so that nothing comes while it is looked at; nova asks the host itself, which a dead one delays
            disabled = leave.disable(cloud, node) if driver.machine(state, name).running else []
            found = leave.occupants(cloud, node)
            if found:
                leave.enable(cloud, disabled)
            return found

        if found := _ask(state, empty):
            raise LabError(
                f"{name} of {lab} still holds " + ", ".join(found),
                f"labctl exec {lab} -- openstack server delete ID; labctl exec {lab} -- openstack volume delete ID",
            )
    with step(name, "remove the machine"):
        if stuck := driver.destroy(state, name):
            raise LabError(f"could not remove all of {name}: {', '.join(stuck)}", f"labctl node remove {lab} {name}")
    if known_to_services:
        with step(name, "forget its services and agents"):
            _forget(state, driver, node)
    state.spec = spec  # its key stays: a snapshot may bring the machine back
    driver.create_network(state)  # the names that the vantage knows
    state.save()
    return _converge(state, driver, state.up())


def _converge(state: LabState, driver: Driver, command: str) -> Summary:
    """Bring the lab to its new spec; what fails names the command that goes on."""
    try:
        return converge(state, driver)
    except LabError as error:
        raise LabError(error.message, error.hint or f"{command} continues") from error


def _forget(state: LabState, driver: Driver, node: NodeSpec) -> None:
    """Delete what the services keep of a host; what has no API for it is done by its tool on its node."""
    by_tool = _ask(state, lambda cloud: leave.forget(cloud, node))
    commands = [
        (Component.CINDER_CONTROLLER, f'su -s /bin/sh -c "cinder-manage service remove {binary} {host}" cinder')
        for binary, host in by_tool
    ]
    if node.has(Component.NOVA_COMPUTE):
        commands.append((Component.NOVA_CONTROLLER, f"rm -f {quote(MAPPED + node.name)}"))
    for component, command in commands:
        host = state.spec.host_of(component).name
        with driver.connect(state, host, 20) as session:
            done = session.run(command, timeout=120)
        if done.status != 0:
            raise LabError(
                f"{host}: {command} ended with {done.status}:\n{(done.stderr or done.stdout).strip()[-2000:]}",
                f"labctl node remove {state.name} {node.name}",
            )


def _ask(state: LabState, question: Callable[[Cloud], T]) -> T:
    """Ask the lab's APIs as admin.

    :raises LabError: they do not answer, or refuse.
    """
    try:
        return inside.ask(state, drivers.get(state.spec.driver), state.secrets(), question)
    except ClientException as error:
        raise BrokenLabError(f"{state.name}: {type(error).__name__}: {error}", f"labctl status {state.name}") from error


def _require_running(state: LabState, driver: Driver, names: list[str]) -> None:
    stopped = [n for n in names if driver.machine(state, n).state != "running"]
    if stopped:
        verb = "does" if len(stopped) == 1 else "do"
        raise BrokenLabError(f"{state.name} is not up: {' and '.join(stopped)} {verb} not run", state.up())
