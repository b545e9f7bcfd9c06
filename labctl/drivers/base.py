"""The contract between the engine and the drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labctl.components import COMPONENTS

if TYPE_CHECKING:
    from labctl.host.links import Shape
    from labctl.host.ssh import Session
    from labctl.records.lab import Lab
    from labctl.topology.spec import LabSpec


@dataclass(frozen=True)
class Capabilities:
    """What a driver's machines support here; back ends are chosen by these facts."""

    own_kernel: bool
    block_devices: bool
    device_mapper: bool
    openvswitch: bool
    vlan: bool
    nested_kvm: bool

    def names(self) -> frozenset[str]:
        """The names of the capabilities that are present."""
        return frozenset(name for name, value in vars(self).items() if value)


@dataclass(frozen=True)
class Machine:
    """A machine's current state."""

    node: str
    exists: bool
    running: bool
    #: what it runs as, or why it is not running if known
    detail: str = ""
    #: its processes (or processors) are paused; a paused machine counts as running
    paused: bool = False

    @property
    def state(self) -> str:
        """One of: running, paused, stopped, gone."""
        if self.paused:
            return "paused"
        return "running" if self.running else "stopped" if self.exists else "gone"


def shutdown_order(spec: LabSpec) -> list[list[str]]:
    """Groups of nodes in shutdown order: nodes that hold data for others come last."""
    last = [n.name for n in spec.nodes.values() if any(COMPONENTS[c].holds_data for c in n.runs)]
    return [group for group in ([n for n in spec.nodes if n not in last], last) if group]


class Driver(Protocol):
    """Creates, starts, stops and removes the machines of a lab. Every call is idempotent."""

    name: str

    @property
    def patience(self) -> float:
        """How many times slower than the host its machines are; multiplies deadlines."""
        ...

    def mtu(self, lab: str) -> int:
        """Bytes of the largest packet that the networks of its machines carry; 0: as large as a topology says.

        :param lab: the name of the lab that asks, which may not exist yet.
        :raises LabError: it cannot be asked.
        """
        ...

    def capabilities(self) -> Capabilities:
        """Capabilities of this driver's machines; recipes choose back ends by them."""
        ...

    def probe(self) -> None:
        """Check that the driver works on this host.

        :raises LabError: it does not; says what is missing.
        """
        ...

    def image(self, lab: Lab) -> tuple[Path, ...]:
        """Return the layers of the lab's golden image, uppermost first.

        A lab without layers gets the newest image, built if missing; a lab keeps its layers until it is removed.

        :raises LabError: one of the lab's layers is gone or was changed.
        """
        ...

    def create(self, lab: Lab, node: str) -> None:
        """Create a machine on the lab's stack, with disks, cards and labctl's key; it is not started."""
        ...

    def start(self, lab: Lab, node: str) -> None:
        """Start a machine, or resume it from the memory that :meth:`rest` saved; does not wait for it to answer."""
        ...

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        """Shut a machine down; after that many seconds, by force. True if it shut down in time or was already down.

        With 0 seconds its power is cut. A paused machine is resumed first.
        """
        ...

    def pause(self, lab: Lab, node: str) -> None:
        """Pause a running machine until :meth:`resume`; a paused machine can be destroyed.

        :raises LabError: it is not running, or this host cannot pause it.
        """
        ...

    def resume(self, lab: Lab, node: str) -> None:
        """Resume a paused machine; does nothing for any other."""
        ...

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        """Unplug a node's cable from a network, or plug it in."""
        ...

    def shape(self, lab: Lab, node: str, network: str, shape: Shape) -> None:
        """Set delay, loss and rate of a node's link to a network; an empty shape restores it.

        :raises LabError: this host does not support it; the link is left unmodified.
        """
        ...

    def files(self, lab: Lab, node: str) -> Path | None:
        """The root of a machine's file system if this host can read it at any time, else None."""
        ...

    def written(self, lab: Lab, node: str, stack: tuple[str, ...]) -> tuple[Path, ...]:
        """What a machine wrote in each of these layers, in their order, laid out as its file system.

        Empty where this host cannot read it.
        """
        ...

    def rest(self, lab: Lab, seconds: float) -> None:
        """Quiesce all machines so that their disks can be frozen, and release the disks.

        Containers are shut down, those that others depend on last; after that many seconds, by force. A driver
        that can save memory pauses all machines and saves their memory beside their disks in ``lab.top``.

        :raises LabError: a disk is still in use.
        """
        ...

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        """Fill a new layer so that machines on top of it and ``stack`` see the content of ``stack``.

        What can be stacked (overlays, backing files) needs only an empty layer; anything else is copied from the
        layer below, sparsely. Machines need not be quiesced if ``stack`` is frozen.

        :raises LabError: it does not fit on the disk.
        """
        ...

    def tidy(self, lab: Lab) -> list[str]:
        """Remove what is kept outside of the lab's directory for layers that are gone; returns what is left.

        :raises LabError: where that is kept cannot be asked.
        """
        ...

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        """What another host needs to resume from a frozen layer, besides the golden image and the layers.

        Empty if machines boot from their disks; else facts for :meth:`adopt` on that host.

        :raises LabError: the machines cannot be moved to another host; says why.
        """
        ...

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        """Adapt layers from another host to this one, before machines use them.

        :param needs: what :meth:`needs` returned there; if empty, machines boot from their disks in any case.
        :raises LabError: this host lacks something; says what.
        """
        ...

    def destroy(self, lab: Lab, node: str) -> list[str]:
        """Remove a machine and all its resources by force; returns what could not be removed.

        Works by name and marks alone, without ``lab.spec.nodes``: a killed restore can leave the machine of a node
        that joined after the snapshot and is no longer in the lab's record.
        """
        ...

    def remains(self, name: str) -> list[str]:
        """Resources with the mark of a lab of this home, besides network, mounts, loop devices and control groups.

        For callers that know only the lab's name.
        """
        ...

    def sweep(self, name: str) -> list[str]:
        """Remove what :meth:`remains` finds; returns what could not be removed."""
        ...

    def litter(self, recorded: set[str]) -> list[Path]:
        """Empty directories that the driver's programs left for labs of this home that no longer exist.

        :param recorded: the ids of all existing labs.
        """
        ...

    def lost(self, lab: Lab, node: str) -> str:
        """An essential resource that a running machine has lost, such as its network; empty if none."""
        ...

    def machine(self, lab: Lab, node: str) -> Machine:
        """The machine's state."""
        ...

    def connect(self, lab: Lab, node: str, seconds: float) -> Session:
        """Open an SSH session to a machine, waiting up to that many seconds for it to answer.

        :raises DeadlineError: it did not answer in time.
        """
        ...

    def console(self, lab: Lab, node: str) -> Path:
        """The file that holds the machine's console output."""
        ...

    def create_network(self, lab: Lab) -> None:
        """Create the lab's namespace and networks."""
        ...

    def destroy_network(self, lab: Lab) -> list[str]:
        """Remove the lab's namespace and networks; returns what could not be removed."""
        ...

    def cpu_seconds(self, lab: Lab) -> float:
        """CPU seconds that the machines have used since they started."""
        ...
