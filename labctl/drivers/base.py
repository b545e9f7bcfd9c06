"""The contract between the engine and whatever makes machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labctl.lab.state import LabState
from labctl.ssh import Session


@dataclass(frozen=True)
class Capabilities:
    """What a driver's machines can do here; back ends are chosen by these facts."""

    own_kernel: bool
    block_devices: bool
    device_mapper: bool
    openvswitch: bool
    nested_kvm: bool

    def names(self) -> frozenset[str]:
        """The names of the capabilities that hold."""
        return frozenset(name for name, value in vars(self).items() if value)


@dataclass(frozen=True)
class Machine:
    """A machine as it is now."""

    node: str
    exists: bool
    running: bool
    detail: str = ""


class Driver(Protocol):
    """Makes, starts, stops and removes the machines of a lab. Every call is safe to repeat."""

    name: str

    def capabilities(self) -> Capabilities:
        """What machines of this driver can do; a recipe chooses its back ends by it."""
        ...

    def probe(self) -> None:
        """Look whether the driver can work on this host.

        :raises LabError: it cannot; says what is missing.
        """
        ...

    def image(self, lab: LabState) -> tuple[Path, ...]:
        """Return the layers of the lab's golden image, uppermost first, building those that are not there."""
        ...

    def create(self, lab: LabState, node: str) -> None:
        """Make a machine: its disks and cards, labctl's key in it, not running."""
        ...

    def start(self, lab: LabState, node: str) -> None:
        """Start a machine; it may take a while until it answers."""
        ...

    def stop(self, lab: LabState, node: str, seconds: float) -> None:
        """Shut a machine down; after so many seconds, hard."""
        ...

    def destroy(self, lab: LabState, node: str) -> list[str]:
        """Remove a machine and all it had, hard; returns what could not be removed."""
        ...

    def machine(self, lab: LabState, node: str) -> Machine:
        """The machine's state."""
        ...

    def connect(self, lab: LabState, node: str, seconds: float) -> Session:
        """Open an SSH session to a machine, waiting so many seconds for it to answer.

        :raises DeadlineError: it does not.
        """
        ...

    def console(self, lab: LabState, node: str) -> Path:
        """The file that holds the machine's console output."""
        ...

    def create_network(self, lab: LabState) -> None:
        """Make the lab's namespace and networks."""
        ...

    def destroy_network(self, lab: LabState) -> list[str]:
        """Remove the lab's namespace and networks; returns what could not be removed."""
        ...

    def cpu_seconds(self, lab: LabState) -> float:
        """CPU seconds the machines have used since they started."""
        ...
