"""Take and restore snapshots: the whole lab as it was at one moment, under a name.

A lab's machines write into the top layer of a stack (``labctl.records.lab``). A snapshot quiesces the
machines, freezes that layer under a name, and puts a new one over it; so it copies only additional disks
and the shared directory, and uses disk space only for what was changed. Restoring puts a new layer over
the frozen ones. A layer holds the journal and the secrets of its time, the snapshot's entry in the lab's
record holds the spec.

One write of that record commits all of it; :func:`sweep` removes what a process killed before or after it
leaves.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labctl.components import Component
from labctl.engine.health import gate
from labctl.errors import BrokenLabError, LabError
from labctl.host import files, sparse, state
from labctl.host.threads import on_each
from labctl.lab import fault
from labctl.progress import note, step, warn
from labctl.records import access, lease
from labctl.records.directory import RECORD
from labctl.records.lab import GOES_ON, MEMORY, POOL, Lab
from labctl.topology.model import NAME, Frozen, LayerNumber
from labctl.topology.spec import LabSpec
from labctl.topology.units import show_size

#: Seconds for machines to shut down cleanly before they are killed.
STOP = 60
MAX_NAME = 40
#: Bytes for a node's first writes over frozen files: a file is copied up whole, for example a database's log.
ROOM = 256 * 2**20
#: What belongs to the lab itself, not to one snapshot of it.
LASTING = ("id", "created", "topology_file", "stack", "snapshots", lease.OWNER, lease.LEASE, POOL)
#: Files of a layer that are copied into the next one.
_CARRIED = ("journal.json", "secrets.json")


def passing(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What of a lab's record is of this moment, and not LASTING."""
    return {key: value for key, value in meta.items() if key not in LASTING}


class Facts(BaseModel):
    """What a snapshot keeps of its lab's record, besides the spec: at least the golden image."""

    model_config = ConfigDict(extra="allow")
    image: list[str]


def _facts(given: dict[str, Any]) -> dict[str, Any]:
    Facts.model_validate(given)
    return given


class Entry(Frozen):
    """A snapshot in a lab's record, under its name.

    ``created`` in seconds since the epoch, ``stage`` when labctl took it automatically after one.
    """

    created: float
    stack: tuple[LayerNumber, ...] = Field(min_length=1)
    parent: str
    stage: str
    spec: LabSpec
    facts: Annotated[dict[str, Any], AfterValidator(_facts)]


class Snapshot(Entry):
    """One snapshot."""

    name: str


def snapshots(lab: Lab) -> list[Snapshot]:
    """The snapshots of a lab, the oldest first."""
    return sorted(_all(lab).values(), key=lambda s: s.created)


def _all(lab: Lab) -> dict[str, Snapshot]:
    """The snapshots of a lab by name.

    :raises LabError: labctl did not write its record of them.
    """
    try:
        return {name: Snapshot(name=name, **entry) for name, entry in lab.meta["snapshots"].items()}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        path = lab.directory / RECORD
        raise LabError(f"{path} cannot be read: its snapshots are damaged", f"labctl down {lab.name}") from error


def find(lab: Lab, name: str) -> Snapshot:
    """Look up a snapshot by name.

    :raises LabError: there is none; lists the existing ones.
    """
    entries = _all(lab)
    if name not in entries:
        known = ", ".join(s.name for s in snapshots(lab)) or "none"
        raise LabError(f"{lab.name} has no snapshot '{name}'; snapshots: {known}", f"labctl snapshot list {lab.name}")
    return entries[name]


def used(lab: Lab, snapshot: Snapshot) -> int:
    """Bytes that a snapshot uses by itself: its layers that are not its parent's too."""
    below = set(find(lab, snapshot.parent).stack) if snapshot.parent else set()
    return sparse.used(*(lab.layer(number) for number in snapshot.stack if number not in below))


def check_name(name: str) -> None:
    """Check a snapshot's name.

    :raises LabError: it is invalid.
    """
    if not re.fullmatch(NAME, name) or len(name) > MAX_NAME:
        raise LabError(
            f"{name!r} is not a snapshot name",
            f"use up to {MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter",
        )


# --- create ----------------------------------------------------------------------------------------


def create(lab: Lab, name: str, stage: str = "", *, stop: bool = False) -> Snapshot:
    """Take a snapshot of a running lab, which resumes afterwards; the caller holds its lock.

    :param stage: taken by labctl itself after this stage; replaces an earlier one of that kind.
    :param stop: leave the machines stopped, as they were frozen.
    :raises LabError: the name is taken, a machine is not running, or there is no room; the lab continues unchanged.
    :raises BrokenLabError: the snapshot was taken, but the lab is not healthy after it.
    """
    with step("lab", f"snapshot {name}"):
        take(lab, name, stage)
        if not stop:
            wake(lab)
    if not stop:
        gate(lab)
    return find(lab, name)


def take(lab: Lab, name: str, stage: str = "") -> None:
    """Take a snapshot and leave the machines stopped.

    :raises LabError: as :func:`create`.
    """
    check_name(name)
    known = lab.meta["snapshots"].get(name)
    if known is not None and not (stage and known["stage"]):
        raise LabError(
            f"{lab.name} already has a snapshot '{name}'", f"labctl snapshot delete {lab.name} {name}, or another name"
        )
    entry = Entry(
        created=time.time(),
        stack=lab.stack,
        parent=_standing_on(lab),
        stage=stage,
        spec=lab.spec,
        facts=passing(lab.meta),
    )
    freeze(lab, {name: entry.model_dump(mode="json")})


def _standing_on(lab: Lab) -> str:
    """The newest snapshot whose frozen layer the lab is based on."""
    owners = {s.stack[0]: s.name for s in snapshots(lab)}
    return next((owners[number] for number in lab.stack[1:] if number in owners), "")


def freeze(lab: Lab, entries: Mapping[str, Any]) -> None:
    """Quiesce a running lab, freeze its top layer for good, and put a new layer over it.

    :param entries: snapshots to record at the same moment.
    :raises LabError: it failed; the lab continues unchanged, or the error says why its machines did not start again.
    """
    for node in lab.spec.nodes:
        if not lab.driver.machine(lab, node).running:
            raise BrokenLabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
    if faults := fault.active(lab):
        raise BrokenLabError(
            f"{lab.name} has active faults: {', '.join(map(str, faults))}", f"labctl fault heal {lab.name}"
        )
    sweep(lab)
    require_room(lab, lab.stack)
    before = dict(lab.meta)
    try:
        with step("lab", "quiesce machines"):
            lab.driver.rest(lab, STOP)
        layer = branch(lab, lab.stack)
        lab.meta["stack"] = [layer, *lab.stack]
        lab.meta["snapshots"] = {**lab.meta["snapshots"], **entries}
        lab.save()
    except (LabError, OSError) as error:
        warn("lab", f"no snapshot was taken: {error}")
        lab.meta = before
        sweep(lab)
        wake(lab)
        warn("lab", "the lab continues unchanged")
        raise
    sweep(lab)


def require_room(lab: Lab, stack: tuple[str, ...]) -> None:
    """Check for enough free disk space.

    :raises LabError: too little for copies of disks and shared files and the first writes of the nodes.
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
    """Create a layer on top of a frozen stack; nothing references it yet."""
    number = lab.new_layer()
    layer, below = lab.layer(number), lab.layer(stack[0])
    files.new_directory(layer, 0o700)
    try:
        lab.driver.branch(lab, stack, number)
        for name in _CARRIED:
            if (below / name).exists():
                files.copy(below / name, layer / name, largest=state.LARGEST)
    except (LabError, OSError):
        files.remove(layer)
        raise
    return number


def wake(lab: Lab) -> None:
    """Create and start the machines of a quiesced lab."""

    def bring(node: str) -> None:
        lab.driver.create(lab, node)
        lab.driver.start(lab, node)

    with step("lab", "start machines"):
        lab.driver.create_network(lab)
        on_each(bring, lab.spec.nodes)


# --- restore ---------------------------------------------------------------------------------------


def restore(lab: Lab, name: str) -> None:
    """Restore a lab to a snapshot, whatever state its machines are in; the caller holds its lock.

    Later changes are lost. The lab's name, keys and snapshots stay.

    :raises LabError: there is no such snapshot or no room for its disks; the lab stays unchanged.
    :raises BrokenLabError: the lab is restored, but not healthy.
    """
    find(lab, name)
    lab.driver.image(lab)
    revert(lab, name)


def revert(lab: Lab, name: str) -> None:
    """Restore a lab whose golden image was just verified; else as :func:`restore`."""
    snapshot = find(lab, name)
    sweep(lab)
    require_room(lab, snapshot.stack)
    with step("lab", f"restore {name}"):
        layer = branch(lab, snapshot.stack)
        before = Lab(lab.directory, lab.spec, lab.meta)
        fault.lift(lab)
        lab.driver.rest(lab, 0)
        lab.spec = snapshot.spec
        lab.meta = {**passing(snapshot.facts), **{key: lab.meta[key] for key in LASTING if key in lab.meta}}
        lab.meta["stack"] = [layer, *snapshot.stack]
        lab.save()
        settle(lab, before)
        wake(lab)
    gate(lab)


def settle(lab: Lab, before: Lab) -> None:
    """Reconcile everything with a record that was just switched to another stack.

    :param before: the lab as it was recorded before.
    """
    for node in before.spec.nodes:
        if node not in lab.spec.nodes and (left := lab.driver.destroy(before, node)):
            warn(node, f"joined after the snapshot and could not be removed completely: {', '.join(left)}")
    lab.ensure_keys()
    if lab.spec.has(Component.KEYSTONE):
        access.write(lab, lab.context.auth_url, lab.secrets())
    sweep(lab)


# --- delete ----------------------------------------------------------------------------------------


def delete(lab: Lab, name: str) -> None:
    """Delete a snapshot, and its layer unless the lab or another snapshot uses it.

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
    for left in lab.driver.tidy(lab):
        warn("lab", f"not removed with {name}: {left}")


def waste(lab: Lab) -> list[Path]:
    """Layers that neither the lab nor a snapshot uses, and memory that no machine will resume from.

    A killed snapshot or restore leaves such layers; a deleted snapshot leaves the memory in a layer that the lab still
    uses.
    """
    stacks = [lab.stack, *(s.stack for s in snapshots(lab))]
    needed = {number for stack in stacks for number in stack}
    resumed = {stack[0] for stack in stacks} | {p.read_text() for p in lab.top.glob(f"*/{GOES_ON}")}
    layers = [p for p in (lab.directory / "layers").glob("*") if p.name not in needed]
    return sorted(layers) + [p for n in sorted(needed - resumed) for p in sorted(lab.layer(n).glob(f"*/{MEMORY}"))]


def sweep(lab: Lab) -> None:
    """Remove unused layers and memory; idempotent."""
    for path in waste(lab):
        if path.is_dir():
            files.remove(path)
        else:
            files.erase(path)
        if path.exists():
            note("lab", f"{path} is no longer needed, but cannot be removed")
