"""Fault injection into the lab under test, and the check that it has recovered."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from openstack.connection import Connection

from labctl.components import Component
from labctl.errors import DeadlineError, LabError
from labctl.host import namespace, process
from labctl.lab import logs
from labctl.records import cloud
from labctl.records.access import Access
from labctl.records.lab import Lab
from labctl.testing.waits import wait_for

COMMAND = 420  # seconds for one fault, including the boot of a machine
RECOVERY = 300  # seconds until agents and services that lost their peers are back
LOG_LINES = 3  # of a unit that is not back
_WORDS = ("ERROR", "CRITICAL", "Traceback", "error", "rror:", "failed", "Failed")

Units = dict[str, frozenset[str]]


class NotRecoveredError(LabError):
    """The lab did not recover by itself; the message names units and their log lines."""


class Faults:
    """``labctl fault`` for the lab under test, and its recovery."""

    def __init__(self, lab: Access, admin: Connection) -> None:
        self._lab, self._admin = lab, admin
        self.state = Lab.load(lab.lab)
        self.began = time.time()
        self._running = running(lab)

    def host(self, component: Component) -> str:
        """The node that runs a component, for components that a lab has once."""
        return self.state.spec.host_of(component).name

    def __call__(self, *words: str) -> None:
        """``labctl fault LAB WORDS``, from outside the lab as a person would.

        :raises CommandError: the command failed; shows why.
        """
        self._run(self._lab.lab, *words)

    def heal(self) -> None:
        """``labctl fault heal LAB``."""
        self._run("heal", self._lab.lab)

    def _run(self, *words: str) -> None:
        process.run(
            namespace.outside(self._lab.lab, [sys.executable, "-P", "-m", "labctl", "fault", *words]), timeout=COMMAND
        )

    def wait_lost(self, what: str, sick: Callable[[list[str]], bool], deadline: float = 180) -> None:
        """Wait until the APIs report a loss: ``sick`` gets what they report as not alive."""
        wait_for(what, self.ailing, sick, deadline=deadline, interval=3)

    def ailing(self) -> list[str]:
        """Services and agents that the APIs report as not alive, and APIs that do not answer."""
        return ailing(self._admin, self._lab)

    def wait_recovered(self, deadline: float = RECOVERY) -> float:
        """Wait until every API answers, every agent is alive and every earlier unit runs again; return the seconds.

        :raises NotRecoveredError: timed out; names what is missing, with its last log lines.
        """
        began = time.monotonic()
        try:
            wait_for("the lab's recovery", self._sick, lambda sick: not sick, deadline=deadline, interval=3)
        except DeadlineError as error:
            raise NotRecoveredError(f"{error.message}\n{self.report()}", self._lab.up) from error
        return time.monotonic() - began

    def _sick(self) -> list[str]:
        missing = [f"{unit} on {node} is not running" for node, unit in self.missing()]
        return missing or self.ailing()

    def missing(self) -> list[tuple[str, str]]:
        """(node, unit) of each unit that ran before the faults and is not running now."""
        try:
            now = running(self._lab)
        except LabError as error:
            return [("lab", error.message.splitlines()[0])]
        return [(node, unit) for node, units in self._running.items() for unit in sorted(units - now[node])]

    def report(self) -> str:
        """What did not recover: each unit, or agent as the APIs report it, with its last relevant log lines."""
        lines: list[str] = []
        for node, unit in self.missing():
            lines += [f"{node}: {unit} is not running", *self._last_lines(node, unit)]
        for name in self.ailing():
            binary, _, node = name.partition(" on ")
            node = node.partition("@")[0]
            lines += [f"{name} is not alive", *(self._last_lines(node, binary) if node in self._lab.nodes else [])]
        return "\n".join(lines)

    def _last_lines(self, node: str, unit: str) -> list[str]:
        if node not in self._lab.nodes:
            return []
        try:
            found = logs.of_node(self.state, node, self.began, unit.removesuffix(".service"))
        except LabError as error:
            return [f"    (no log: {error.message})"]
        telling = [line for line in found if any(word in line.text for word in _WORDS)] or found
        return [f"    {line.source}: {line.text[:300]}" for line in telling[-LOG_LINES:]] or ["    (no log line)"]


def running(lab: Access) -> Units:
    """The service units that run on each node.

    :raises LabError: a node does not answer.
    """
    command = "systemctl list-units --type=service --state=running --plain --no-legend --no-pager"
    found: Units = {}
    record = Lab.load(lab.lab)
    for node in lab.nodes:
        with record.connect(node) as session:
            listed = session.run(command, timeout=30).stdout.splitlines()
        # login sessions, this one included, come and go
        names = (line.split()[0] for line in listed if line.strip())
        found[node] = frozenset(name for name in names if not name.startswith(("user@", "session-", "systemd-")))
    return found


def ailing(admin: Connection, lab: Access) -> list[str]:
    """``BINARY on HOST`` of what the APIs report as not alive; an API that does not answer is listed too."""
    found: list[str] = []

    def ask(what: str, source: Callable[[], Iterable[Any]], dead: Callable[[Any], bool]) -> None:
        try:
            found.extend(f"{x.binary} on {x.host}" for x in source() if dead(x))
        except Exception as error:  # whatever the error, this API does not work
            found.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")

    try:
        cloud.check(lab)
    except LabError as error:
        return [error.message]
    if "nova-controller" in lab.components:
        ask("compute", admin.compute.services, lambda service: service.state != "up")
    if "neutron-server" in lab.components:
        ask("network", admin.network.agents, lambda agent: not agent.is_alive)
    if "cinder-controller" in lab.components:
        ask("block storage", admin.block_storage.services, lambda service: service.state != "up")
    return found
