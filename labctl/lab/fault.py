"""Inject faults into a lab, and undo them.

A fault is recorded before it is injected, so that whatever a killed labctl leaves, ``status`` shows it and
:func:`heal_all` undoes it. The record holds what was requested; undoing a fault that never took effect, or
ended by itself, is not an error.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host import files, state
from labctl.host.links import WHOLE, Shape, card
from labctl.progress import step, warn
from labctl.records.lab import Lab

if TYPE_CHECKING:
    from labctl.host.ssh import Session

RECORD = "faults.json"
ANSWER = 60  # seconds until a resumed or started machine must answer
BOOT = 180  # seconds for the units of a started machine
UNIT = 330  # seconds for systemctl: a unit may take 300 to start, then systemd reports it


class Kind(StrEnum):
    """What was done, and to which part of a lab."""

    NODE_PAUSED = "node paused"
    LINK_CUT = "link cut"
    LINK_SHAPED = "link shaped"
    NODE_KILLED = "node killed"
    SERVICE_STOPPED = "service stopped"
    SERVICE_KILLED = "service killed"
    EXERCISE = "exercise broken"


#: The order of undoing: a node must be resumed, reachable and started before its services can start.
_ORDER = tuple(Kind)
_SERVICE = (Kind.SERVICE_STOPPED, Kind.SERVICE_KILLED)


@dataclass(frozen=True)
class Fault:
    """One fault; ``target`` is the network of a link or the unit of a service, ``since`` seconds since the epoch."""

    kind: Kind
    node: str
    target: str = ""
    shape: Shape = WHOLE
    since: float = field(default_factory=time.time, compare=False)

    def __str__(self) -> str:
        what, did = self.kind.split()
        words = {
            "node": f"{self.node} {did}",
            "link": f"link of {self.node} to {self.target} {did}",
            "exercise": f"an exercise {did} by labctl break",
        }
        said = words.get(what, f"{self.target} on {self.node} {did}")
        return f"{said}: {self.shape}" if str(self.shape) else said


def active(lab: Lab) -> tuple[Fault, ...]:
    """The active faults of a lab, oldest first."""
    path = lab.directory / RECORD
    if not path.exists():
        return ()
    return tuple(state.read(path, list[Fault], f"labctl down {lab.name}"))


def _save(lab: Lab, faults: Iterable[Fault]) -> None:
    files.rewrite(lab.directory / RECORD, json.dumps([asdict(f) for f in faults], indent=1), 0o644)


def _add(lab: Lab, fault: Fault) -> None:
    """Record a fault, replacing an earlier one of the same kind and place."""
    _save(lab, [*(f for f in active(lab) if _key(f) != _key(fault)), fault])


def exercised(lab: Lab, node: str, name: str) -> None:
    """Record that an exercise breaks a node; :func:`heal_all` forgets it."""
    _add(lab, Fault(Kind.EXERCISE, node, name))


def _drop(lab: Lab, *faults: Fault) -> None:
    gone = {_key(f) for f in faults}
    _save(lab, [f for f in active(lab) if _key(f) not in gone])


def _key(fault: Fault) -> tuple[str, str, str]:
    return fault.kind, fault.node, fault.target


def _running(lab: Lab, node: str) -> None:
    """Require a running machine.

    :raises LabError: there is no such node, or it is not running.
    """
    lab.spec.node(node)
    if not lab.driver.machine(lab, node).running:
        raise BrokenLabError(
            f"{node} of {lab.name} is not running", f"labctl fault heal {lab.name}; labctl repair {lab.name}"
        )


# --- nodes -----------------------------------------------------------------------------------------


def kill_node(lab: Lab, node: str) -> Fault:
    """Power off a machine without a shutdown; its disks, cards and address stay.

    :raises LabError: it is not running.
    """
    _running(lab, node)
    fault = Fault(Kind.NODE_KILLED, node)
    _add(lab, fault)
    with step(node, "kill"):
        lab.driver.stop(lab, node, 0)
    _drop(lab, Fault(Kind.NODE_PAUSED, node))
    return fault


def start_node(lab: Lab, node: str) -> None:
    """Start a machine that was killed, and wait for its units.

    :raises LabError: it does not start.
    """
    lab.spec.node(node)
    _undo(lab, Fault(Kind.NODE_KILLED, node))


def pause_node(lab: Lab, node: str) -> Fault:
    """Freeze a machine: it answers nothing, and others cannot tell it from a slow one.

    :raises LabError: it is not running, or this host cannot pause it.
    """
    _running(lab, node)
    fault = Fault(Kind.NODE_PAUSED, node)
    _add(lab, fault)
    with step(node, "pause"):
        try:
            lab.driver.pause(lab, node)
        except LabError:
            lab.driver.resume(lab, node)
            _drop(lab, fault)
            raise
    return fault


def resume_node(lab: Lab, node: str) -> None:
    """Resume a paused machine.

    :raises LabError: it is not running.
    """
    _running(lab, node)
    _undo(lab, Fault(Kind.NODE_PAUSED, node))


# --- links -----------------------------------------------------------------------------------------


def cut_link(lab: Lab, node: str, network: str) -> Fault:
    """Disconnect a node from a network.

    :raises LabError: there is no such node or network, or the node is not in it.
    """
    card(lab.spec, node, network)
    fault = Fault(Kind.LINK_CUT, node, network)
    _add(lab, fault)
    with step(node, f"cut the link to {network}"):
        lab.driver.plug(lab, node, network, False)
    return fault


def shape_link(lab: Lab, node: str, network: str, shape: Shape) -> Fault:
    """Add delay, loss or a rate limit to a node's link to a network, replacing earlier ones.

    :raises LabError: none is given, or this host's kernel cannot do it; the link is then unimpaired.
    """
    card(lab.spec, node, network)
    if not str(shape):
        raise LabError(
            "link shape needs --delay, --loss or --rate",
            f"labctl fault {lab.name} link shape {node} {network} --loss 5%",
        )
    fault = Fault(Kind.LINK_SHAPED, node, network, shape)
    _add(lab, fault)
    with step(node, f"{shape} on the link to {network}"):
        try:
            lab.driver.shape(lab, node, network, shape)
        except LabError:
            _drop(lab, fault)
            raise
    return fault


def heal_link(lab: Lab, node: str, network: str) -> None:
    """Reconnect a node's link to a network and remove its shaping.

    :raises LabError: there is no such node or network, or the node is not in it.
    """
    card(lab.spec, node, network)
    with step(node, f"heal the link to {network}"):
        _undo(lab, Fault(Kind.LINK_CUT, node, network))
        _undo(lab, Fault(Kind.LINK_SHAPED, node, network))


# --- services --------------------------------------------------------------------------------------


def units(lab: Lab, service: str) -> tuple[str, ...]:
    """The units that a word stands for: a daemon by its upstream name (``rabbitmq``), else a unit's own name."""
    known = lab.context.base.units
    return known.get(service, (service,))


def kill_service(lab: Lab, node: str, service: str) -> tuple[Fault, ...]:
    """Kill every process of a service; systemd may restart it, depending on its unit.

    :raises LabError: there is no such node or unit, or it is not running.
    """
    return _on_service(lab, node, service, Kind.SERVICE_KILLED, "systemctl kill --signal=KILL")


def stop_service(lab: Lab, node: str, service: str) -> tuple[Fault, ...]:
    """Stop a service as its administrator would.

    :raises LabError: there is no such node or unit.
    """
    return _on_service(lab, node, service, Kind.SERVICE_STOPPED, "systemctl stop")


def start_service(lab: Lab, node: str, service: str) -> None:
    """Start a service, however it was stopped.

    :raises LabError: there is no such node or unit, or it does not start.
    """
    with step(node, f"start {service}"), _session(lab, node) as session:
        names = units(lab, service)
        _known(lab, node, session, names)
        for unit in names:
            _start(lab, session, node, unit)
            _drop(lab, *(Fault(kind, node, unit) for kind in _SERVICE))


def _on_service(lab: Lab, node: str, service: str, kind: Kind, command: str) -> tuple[Fault, ...]:
    names = units(lab, service)
    faults = tuple(Fault(kind, node, unit) for unit in names)
    with step(node, f"{command.split()[1]} {service}"), _session(lab, node) as session:
        _known(lab, node, session, names)
        for fault in faults:
            _add(lab, fault)
            done = session.run(f"{command} {shlex.quote(fault.target)}", timeout=UNIT)
            if done.status != 0:
                _drop(lab, fault)
                raise LabError(f"{node}: {command} {fault.target}: {done.stderr.strip()}")
    return faults


def _session(lab: Lab, node: str) -> Session:
    """Connect to a node that is reachable according to the record.

    :raises LabError: it is not.
    """
    _running(lab, node)
    for fault in active(lab):
        away = fault.kind is Kind.LINK_CUT and fault.target == lab.spec.management.name
        if fault.node == node and (fault.kind is Kind.NODE_PAUSED or away):
            raise BrokenLabError(f"{node} is unreachable: {fault}", f"labctl fault heal {lab.name}")
    return lab.driver.connect(lab, node, ANSWER)


def _known(lab: Lab, node: str, session: Session, names: tuple[str, ...]) -> None:
    for unit in names:
        said = session.run(f"systemctl show -p LoadState {shlex.quote(unit)}", timeout=30).stdout
        if said.strip() != "LoadState=loaded":
            services = lab.context.base.units
            raise LabError(f"{node} has no unit '{unit}'; use a unit's name, or one of {', '.join(services)}")


def _start(lab: Lab, session: Session, node: str, unit: str) -> None:
    name = shlex.quote(unit)
    done = session.run(f"systemctl reset-failed {name}; systemctl start {name}", timeout=UNIT)
    if done.status != 0:
        raise LabError(f"{node}: {unit} does not start: {done.stderr.strip()}", f"labctl logs {lab.name} {node} {unit}")


# --- undoing ---------------------------------------------------------------------------------------


def heal_all(lab: Lab, start: bool = True) -> tuple[Fault, ...]:
    """Undo every fault and return those undone.

    :param start: false when the caller itself starts stopped machines with their services.
    :raises LabError: lists what could not be undone and why; the others are undone.
    """
    healed: list[Fault] = []
    problems: list[str] = []
    for fault in sorted(active(lab), key=lambda f: _ORDER.index(f.kind)):
        try:
            _undo(lab, fault, start)
        except LabError as error:
            problems.append(f"{fault}: {error.message}")
        else:
            healed.append(fault)
    if problems:
        raise LabError("not healed:\n  " + "\n  ".join(problems), f"{lab.up()}; labctl fault heal {lab.name}")
    return tuple(healed)


def lift(lab: Lab) -> None:
    """Undo faults outside the machines (pauses, links) and drop the rest.

    For a caller that restarts every machine, from disks without the faults.
    """
    for fault in sorted(active(lab), key=lambda f: _ORDER.index(f.kind)):
        if fault.kind in (Kind.NODE_PAUSED, Kind.LINK_CUT, Kind.LINK_SHAPED):
            _undo(lab, fault)
    _save(lab, ())


def _undo(lab: Lab, fault: Fault, start: bool = True) -> None:
    """Undo one fault, whether or not it is in effect, and drop it."""
    driver, node = lab.driver, fault.node
    runs = driver.machine(lab, node).running
    match fault.kind:
        case Kind.NODE_PAUSED:
            with step(node, "resume"):
                driver.resume(lab, node)
        case Kind.LINK_CUT:
            driver.plug(lab, node, fault.target, True)
        case Kind.LINK_SHAPED:
            driver.shape(lab, node, fault.target, WHOLE)
        case Kind.NODE_KILLED if start and not runs:
            _boot(lab, node)
        case Kind.SERVICE_STOPPED | Kind.SERVICE_KILLED if start or runs:
            with step(node, f"start {fault.target}"), _session(lab, node) as session:
                _start(lab, session, node, fault.target)
    _drop(lab, fault)


def _boot(lab: Lab, node: str) -> None:
    """Start a machine and wait until its units have started or failed; the faults of its links stay."""
    links = [f for f in active(lab) if f.node == node and f.kind in (Kind.LINK_CUT, Kind.LINK_SHAPED)]
    with step(node, "start"):
        lab.driver.create(lab, node)
        for fault in links:
            if fault.kind is Kind.LINK_CUT:
                lab.driver.plug(lab, node, fault.target, False)
            else:
                lab.driver.shape(lab, node, fault.target, fault.shape)
        lab.driver.start(lab, node)
        if Fault(Kind.LINK_CUT, node, lab.spec.management.name) not in links:
            _settle(lab, node)


def _settle(lab: Lab, node: str) -> None:
    with lab.driver.connect(lab, node, ANSWER) as session:
        command = "while systemctl list-jobs --no-legend 2>/dev/null | grep -q .; do sleep 0.5; done"
        try:
            session.run(command, timeout=BOOT)
        except DeadlineError:
            jobs = session.run("systemctl list-jobs --no-legend --no-pager", timeout=30).stdout
            warn(node, f"units still starting after {BOOT} s: {' '.join(jobs.split())[:300]}")
