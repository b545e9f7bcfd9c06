"""Snapshots: the whole lab as it was at one moment, named, and the lab as it was brought back.

A lab's machines write into the uppermost layer of a stack (``labctl.records.lab``). A snapshot brings the
machines to rest, freezes that layer under a name, and puts a new one over it; so it costs no copying but
of additional disks and the shared directory, and takes up what was changed. Restoring puts a new layer
over the frozen ones. A layer holds the journal and the secrets of its time, the snapshot's entry in the
lab's record holds the spec.

One write of that record is the moment at which all of it happens; see :func:`sweep` for what a process
that was killed before or after it leaves.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from labctl.components import Component
from labctl.engine.health import gate
from labctl.errors import BrokenLabError, LabError
from labctl.host import sparse
from labctl.host.threads import on_each
from labctl.lab import fault
from labctl.progress import note, step, warn
from labctl.records import access
from labctl.records.lab import GOES_ON, MEMORY, Lab
from labctl.topology.model import NAME, Frozen
from labctl.topology.spec import LabSpec
from labctl.topology.units import show_size

#: Seconds in which machines shut down by themselves, before they are killed.
STOP = 60
MAX_NAME = 40
#: Bytes for a node's first writes over frozen files: a file is copied up whole, as a database's log.
ROOM = 256 * 2**20
#: What belongs to the lab and not to a moment of it.
LASTING = ("id", "created", "topology_file", "stack", "snapshots")
#: Files of a layer that go on in the next one.
_CARRIED = ("journal.json", "secrets.json")


class Entry(Frozen):
    """A snapshot in a lab's record, under its name.

    ``created`` in seconds since the epoch, ``stage`` when labctl took it by itself after one.
    """

    created: float
    stack: tuple[Annotated[str, Field(pattern=r"^[0-9]+$")], ...] = Field(min_length=1)
    parent: str
    stage: str
    spec: LabSpec
    facts: dict[str, Any]


class Snapshot(Entry):
    """One snapshot."""

    name: str


def snapshots(lab: Lab) -> list[Snapshot]:
    """The snapshots of a lab, the oldest first."""
    found = [Snapshot(name=name, **entry) for name, entry in lab.meta["snapshots"].items()]
    return sorted(found, key=lambda s: s.created)


def find(lab: Lab, name: str) -> Snapshot:
    """The snapshot of a name.

    :raises LabError: there is none; names those there are.
    """
    entries = lab.meta["snapshots"]
    if name not in entries:
        known = ", ".join(s.name for s in snapshots(lab)) or "none"
        raise LabError(f"{lab.name} has no snapshot '{name}'; snapshots: {known}", f"labctl snapshot list {lab.name}")
    return Snapshot(name=name, **entries[name])


def used(lab: Lab, snapshot: Snapshot) -> int:
    """Bytes that a snapshot takes up by itself: its layers that its parent does not stand on."""
    below = set(find(lab, snapshot.parent).stack) if snapshot.parent else set()
    return sparse.used(*(lab.layer(number) for number in snapshot.stack if number not in below))


def check_name(name: str) -> None:
    """Refuse what cannot be a snapshot's name.

    :raises LabError: it cannot.
    """
    if not re.fullmatch(NAME, name) or len(name) > MAX_NAME:
        raise LabError(
            f"{name!r} is not a snapshot name",
            f"use up to {MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter",
        )


# --- create ----------------------------------------------------------------------------------------


def create(lab: Lab, name: str, stage: str = "", *, stop: bool = False) -> Snapshot:
    """Take a snapshot of a running lab, which goes on afterwards; the caller holds its lock.

    :param stage: taken by labctl itself after this stage; takes the place of an earlier one of that kind.
    :param stop: leave the machines stopped, as they were frozen.
    :raises LabError: the name is taken, a machine does not run, or there is no room; the lab goes on as it was.
    :raises BrokenLabError: the snapshot is taken, but the lab is not well after it.
    """
    check_name(name)
    known = lab.meta["snapshots"].get(name)
    if known is not None and not (stage and known["stage"]):
        raise LabError(
            f"{lab.name} has a snapshot '{name}' already", f"labctl snapshot delete {lab.name} {name}, or another name"
        )
    entry = Entry(
        created=time.time(),
        stack=lab.stack,
        parent=_standing_on(lab),
        stage=stage,
        spec=lab.spec,
        facts={key: value for key, value in lab.meta.items() if key not in LASTING},
    )
    with step("lab", f"snapshot {name}"):
        freeze(lab, {name: entry.model_dump(mode="json")})
        if not stop:
            wake(lab)
    if not stop:
        gate(lab)
    return find(lab, name)


def _standing_on(lab: Lab) -> str:
    """The newest snapshot whose frozen layer the lab stands on."""
    owners = {s.stack[0]: s.name for s in snapshots(lab)}
    return next((owners[number] for number in lab.stack[1:] if number in owners), "")


def freeze(lab: Lab, entries: Mapping[str, Any]) -> None:
    """Bring a running lab to rest and put a new layer over the one it wrote into, which never changes again.

    :param entries: snapshots to record at the same moment.
    :raises LabError: it could not be done; the lab goes on as it was.
    """
    for node in lab.spec.nodes:
        if not lab.driver.machine(lab, node).running:
            raise BrokenLabError(f"{node} of {lab.name} does not run", f"labctl repair {lab.name}")
    if faults := fault.active(lab):
        raise BrokenLabError(f"{lab.name} is at fault: {', '.join(map(str, faults))}", f"labctl fault heal {lab.name}")
    sweep(lab)
    require_room(lab, lab.stack)
    before = dict(lab.meta)
    try:
        with step("lab", "machines come to rest"):
            lab.driver.rest(lab, STOP)
        layer = branch(lab, lab.stack)
        lab.meta["stack"] = [layer, *lab.stack]
        lab.meta["snapshots"] = {**lab.meta["snapshots"], **entries}
        lab.save()
    except (LabError, OSError):
        warn("lab", "no snapshot was taken; the lab goes on as it was")
        lab.meta = before
        sweep(lab)
        wake(lab)
        raise
    sweep(lab)


def require_room(lab: Lab, stack: tuple[str, ...]) -> None:
    """Refuse to begin what would fill the disk.

    :raises LabError: too little is free for copies of disks and shared files and the first writes of the nodes.
    """
    below = lab.layer(stack[0])
    copied = sparse.used(*below.glob("*/disks"), below / "shared")
    needed, free = copied + ROOM * len(lab.spec.nodes), shutil.disk_usage(lab.directory).free
    if needed > free:
        raise LabError(
            f"{lab.directory} has {show_size(free)} free; a new layer of {lab.name} needs about {show_size(needed)}",
            f"labctl snapshot list {lab.name}; labctl snapshot delete {lab.name} NAME; labctl gc",
        )


def branch(lab: Lab, stack: tuple[str, ...]) -> str:
    """Make a layer that goes on from a frozen stack; nothing names it yet."""
    number = lab.new_layer()
    layer, below = lab.layer(number), lab.layer(stack[0])
    layer.mkdir(mode=0o700)
    try:
        lab.driver.branch(lab, stack, number)
        for name in _CARRIED:
            if (below / name).exists():
                shutil.copy2(below / name, layer / name)
    except (LabError, OSError):
        shutil.rmtree(layer, ignore_errors=True)
        raise
    return number


def wake(lab: Lab) -> None:
    """Make and start the machines of a lab that is at rest."""

    def bring(node: str) -> None:
        lab.driver.create(lab, node)
        lab.driver.start(lab, node)

    with step("lab", "machines start"):
        lab.driver.create_network(lab)
        on_each(bring, lab.spec.nodes)


# --- restore ---------------------------------------------------------------------------------------


def restore(lab: Lab, name: str) -> None:
    """Bring a lab back to a snapshot, whatever its machines do now; the caller holds its lock.

    What was done since then is lost. The lab's name, keys and snapshots stay.

    :raises LabError: there is no such snapshot or no room for its disks; the lab stays as it was.
    :raises BrokenLabError: the lab is restored, but not well.
    """
    snapshot = find(lab, name)
    sweep(lab)
    require_room(lab, snapshot.stack)
    with step("lab", f"restore {name}"):
        lab.driver.image(lab)
        layer = branch(lab, snapshot.stack)
        before = Lab(lab.directory, lab.spec, lab.meta)
        fault.lift(lab)
        lab.driver.rest(lab, 0)
        lab.spec = snapshot.spec
        lab.meta = {**snapshot.facts, **{key: lab.meta[key] for key in LASTING}}
        lab.meta["stack"] = [layer, *snapshot.stack]
        lab.save()
        settle(lab, before)
        wake(lab)
    gate(lab)


def settle(lab: Lab, before: Lab) -> None:
    """Bring everything in line with a record that has just come to another stack.

    :param before: the lab as it was recorded until then.
    """
    for node in before.spec.nodes:
        if node not in lab.spec.nodes and (left := lab.driver.destroy(before, node)):
            warn(node, f"joined after the snapshot, and is not all gone: {', '.join(left)}")
    lab.ensure_keys()
    if lab.spec.has(Component.KEYSTONE):
        access.write(lab, lab.context.auth_url, lab.secrets())
    sweep(lab)


# --- delete ----------------------------------------------------------------------------------------


def delete(lab: Lab, name: str) -> None:
    """Forget a snapshot; its layer goes unless the lab or another snapshot stands on it.

    :raises LabError: there is no such snapshot.
    """
    find(lab, name)
    entries = {key: value for key, value in lab.meta["snapshots"].items() if key != name}
    for entry in entries.values():
        if entry["parent"] == name:
            entry["parent"] = lab.meta["snapshots"][name]["parent"]
    lab.meta["snapshots"] = entries
    lab.save()
    sweep(lab)


def waste(lab: Lab) -> list[Path]:
    """Layers that neither the lab nor a snapshot stands on, and memory that no machine will go on from.

    A killed snapshot or restore leaves such layers; a snapshot that was deleted leaves the memory in a layer that the
    lab still stands on.
    """
    stacks = [lab.stack, *(s["stack"] for s in lab.meta["snapshots"].values())]
    needed = {number for stack in stacks for number in stack}
    resumed = {stack[0] for stack in stacks} | {p.read_text() for p in lab.top.glob(f"*/{GOES_ON}")}
    layers = [p for p in (lab.directory / "layers").glob("*") if p.name not in needed]
    return sorted(layers) + [p for n in sorted(needed - resumed) for p in sorted(lab.layer(n).glob(f"*/{MEMORY}"))]


def sweep(lab: Lab) -> None:
    """Remove the layers and the memory that nothing needs; safe to repeat."""
    for path in waste(lab):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if path.exists():
            note("lab", f"{path} is not needed any more, but cannot be removed")
