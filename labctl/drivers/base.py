"""The contract between the engine and whatever makes machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labctl.components import COMPONENTS
from labctl.host.links import Shape
from labctl.host.ssh import Session
from labctl.records.lab import Lab
from labctl.topology.spec import LabSpec


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
    #: what it runs as, or why it does not run where that is known
    detail: str = ""
    #: its processes (or processors) are stopped where they are; such a machine counts as running
    paused: bool = False

    @property
    def state(self) -> str:
        """The machine's state in a word: running, paused, stopped or gone."""
        if self.paused:
            return "paused"
        return "running" if self.running else "stopped" if self.exists else "gone"


def shutdown_order(spec: LabSpec) -> list[list[str]]:
    """The nodes in the groups in which they are shut down: those that hold what others write to last."""
    last = [n.name for n in spec.nodes.values() if any(COMPONENTS[c].holds_data for c in n.runs)]
    return [group for group in ([n for n in spec.nodes if n not in last], last) if group]


class Driver(Protocol):
    """Makes, starts, stops and removes the machines of a lab. Every call is safe to repeat."""

    name: str

    @property
    def patience(self) -> float:
        """How many times slower than the host its machines are; deadlines are that much longer."""
        ...

    def capabilities(self) -> Capabilities:
        """What machines of this driver can do; a recipe chooses its back ends by it."""
        ...

    def probe(self) -> None:
        """Look whether the driver can work on this host.

        :raises LabError: it cannot; says what is missing.
        """
        ...

    def image(self, lab: Lab) -> tuple[Path, ...]:
        """Return the layers of the lab's golden image, uppermost first.

        A lab without any yet gets the newest, built when it is not there; it keeps what it has for life.

        :raises LabError: a layer that the lab stands on is gone or was changed.
        """
        ...

    def create(self, lab: Lab, node: str) -> None:
        """Make a machine on the lab's stack: its disks and cards, labctl's key in it, not running."""
        ...

    def start(self, lab: Lab, node: str) -> None:
        """Start a machine, or go on from the memory that a rest saved; it may take a while until it answers."""
        ...

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        """Shut a machine down; after so many seconds, hard. True when it went down by itself or was down.

        With 0 seconds nothing in it is asked, as when its power goes. A paused one goes on first.
        """
        ...

    def pause(self, lab: Lab, node: str) -> None:
        """Stop a running machine where it is, until :meth:`resume`; it can be destroyed as it is.

        :raises LabError: it does not run, or this host cannot pause it.
        """
        ...

    def resume(self, lab: Lab, node: str) -> None:
        """Let a paused machine go on; one that is not paused is left as it is."""
        ...

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        """Pull a node's cable out of a network, or plug it in again."""
        ...

    def shape(self, lab: Lab, node: str, network: str, shape: Shape) -> None:
        """Make a node's link to a network late, lossy or slow; an empty shape makes it whole.

        :raises LabError: this host cannot; the link is whole then.
        """
        ...

    def files(self, lab: Lab, node: str) -> Path | None:
        """The root of a machine's file system as this host can read it at any time, None where it cannot."""
        ...

    def rest(self, lab: Lab, seconds: float) -> None:
        """Bring every machine to where its disks can be frozen, and let go of them.

        Containers are shut down, those that others depend on last; after so many seconds, hard. A driver
        that can save a machine's memory pauses all of them and puts it beside their disks in ``lab.top``.

        :raises LabError: something still holds a disk.
        """
        ...

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        """Fill a new layer so that machines that stand on it and on ``stack`` see what ``stack`` holds.

        What can be stacked (overlays, backing files) needs nothing but an empty layer; what cannot is
        copied from the layer below, sparsely. The machines need not rest as long as ``stack`` is frozen.

        :raises LabError: it does not fit on the disk.
        """
        ...

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        """What another host must have to go on from a frozen layer, beside the golden image and the layers.

        Nothing where machines boot from their disks; else facts that :meth:`adopt` understands there.

        :raises LabError: the machines cannot leave this host; says why.
        """
        ...

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        """Bring layers that came from another host in line with this one, before machines stand on them.

        :param needs: as told there; with nothing machines boot from their disks, whatever else there is.
        :raises LabError: this host does not have it; says what.
        """
        ...

    def destroy(self, lab: Lab, node: str) -> list[str]:
        """Remove a machine and all it had, hard; returns what could not be removed.

        Also a machine of a node that the lab's record does not have, as a killed restore leaves one that had joined
        since: by its name and marks alone, with no look at ``lab.spec.nodes``.
        """
        ...

    def remains(self, name: str) -> list[str]:
        """What carries the mark of a lab of this home, beside its network, mounts, loop devices and control groups.

        For those who have nothing of a lab but its name.
        """
        ...

    def sweep(self, name: str) -> list[str]:
        """Remove what :meth:`remains` finds; returns what could not be removed."""
        ...

    def litter(self, recorded: set[str]) -> list[Path]:
        """Empty directories that a program of the driver's made for labs of this home that are gone.

        :param recorded: the ids of all labs there are.
        """
        ...

    def lost(self, lab: Lab, node: str) -> str:
        """What a running machine has lost without which it is of no use, as its network; empty for nothing."""
        ...

    def machine(self, lab: Lab, node: str) -> Machine:
        """The machine's state."""
        ...

    def connect(self, lab: Lab, node: str, seconds: float) -> Session:
        """Open an SSH session to a machine, waiting so many seconds for it to answer.

        :raises DeadlineError: it does not.
        """
        ...

    def console(self, lab: Lab, node: str) -> Path:
        """The file that holds the machine's console output."""
        ...

    def create_network(self, lab: Lab) -> None:
        """Make the lab's namespace and networks."""
        ...

    def destroy_network(self, lab: Lab) -> list[str]:
        """Remove the lab's namespace and networks; returns what could not be removed."""
        ...

    def cpu_seconds(self, lab: Lab) -> float:
        """CPU seconds the machines have used since they started."""
        ...
