"""Clone a lab: a second lab that continues from the first one's current state, or from a snapshot of it.

For its current state a lab is frozen briefly, as for an unnamed snapshot. The copy has its own frozen layers,
whose files are hard links to the same content, so each lab can be removed or restored without the other; what
identifies a machine (keys, machine id, cards) is generated anew.
"""

from __future__ import annotations

import re
import secrets as randomness
import time
from collections.abc import Mapping
from typing import Any

from labctl.components import Component
from labctl.engine.capacity import check_resources
from labctl.engine.health import gate
from labctl.errors import LabError
from labctl.host import files, paths, sparse
from labctl.lab import snapshot as snaps
from labctl.progress import step
from labctl.records import access
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.records.lease import UNSAID, Terms, begun
from labctl.topology.model import NAME
from labctl.topology.resolve import Macs
from labctl.topology.spec import LabSpec, NodeSpec

MAX_NAME = 40


def check_name(name: str) -> None:
    """Check the name of a new lab.

    :raises LabError: it is invalid or taken.
    """
    if not re.fullmatch(NAME, name) or len(name) > MAX_NAME:
        raise LabError(
            f"{name!r} is not a lab name",
            f"use up to {MAX_NAME} lower-case letters, digits and hyphens, beginning with a letter",
        )
    if exists(name):
        raise LabError(f"a lab named {name} already exists", f"labctl status {name}")
    if (paths.labs() / name).exists():
        raise LabError(f"leftovers of an earlier lab {name} exist", f"labctl down {name}")


def renamed(spec: LabSpec, name: str) -> LabSpec:
    """The spec of a lab as it would have been resolved under another name: with MAC addresses of its own."""
    macs = Macs(name)

    def node(old: NodeSpec) -> NodeSpec:
        cards = [macs.given(old.name, card) for card in old.interfaces]
        return old.model_copy(update={"interfaces": tuple(cards)})

    nodes = {key: node(old) for key, old in spec.nodes.items()}
    later = {key: node(old) for key, old in spec.later.items()}
    return spec.model_copy(update={"name": name, "nodes": nodes, "later": later})


def clone(lab: Lab, name: str, terms: Terms = UNSAID) -> Lab:
    """Make a running copy of a running lab; the caller holds the locks of both names.

    :raises LabError: the name is taken, the lab is not running, or there is no room for another.
    :raises BrokenLabError: both labs exist, but one is not healthy.
    """
    check_name(name)
    check_resources(renamed(lab.spec, name), set(), lab.directory)
    with step("lab", f"clone {lab.name} as {name}"):
        snaps.freeze(lab, {})
        snaps.wake(lab)
        copy = _copy(lab, renamed(lab.spec, name), lab.meta, lab.stack[1:], begun(terms))
        snaps.wake(copy)
        for each in (lab, copy):
            snaps.sweep(each)  # the memory from which the lab resumed
    for each in (lab, copy):
        gate(each)
    return copy


def clone_snapshot(lab: Lab, snapshot: str, name: str, terms: Terms = UNSAID) -> Lab:
    """Make a running copy of a lab as it was at a snapshot; the caller holds the locks of both names.

    The lab itself goes on untouched, and need not run.

    :raises LabError: there is no such snapshot, the name is taken, or there is no room for another lab.
    :raises BrokenLabError: the copy exists, but is not healthy.
    """
    found = snaps.find(lab, snapshot)
    check_name(name)
    check_resources(renamed(found.spec, name), set(), lab.directory)
    with step("lab", f"clone {lab.name}/{snapshot} as {name}"):
        lab.driver.image(lab)
        copy = branch_off(lab, found, name, begun(terms))
        snaps.wake(copy)
    gate(copy)
    return copy


def branch_off(lab: Lab, snapshot: snaps.Snapshot, name: str, own: Mapping[str, Any]) -> Lab:
    """Record a new lab that continues from a snapshot, which it has too; its machines are not started.

    :param own: what its record has besides.
    :raises LabError: it cannot be written.
    """
    spec = renamed(snapshot.spec, name)
    kept = snapshot.model_copy(update={"spec": spec, "parent": "", "stage": ""})
    entry = kept.model_dump(mode="json", exclude={"name"})
    return _copy(lab, spec, snapshot.facts, snapshot.stack, {**own, "snapshots": {snapshot.name: entry}})


def _copy(lab: Lab, spec: LabSpec, facts: Mapping[str, Any], frozen: tuple[str, ...], own: Mapping[str, Any]) -> Lab:
    """Create the new lab's directory; its record is written last."""
    meta = {
        **snaps.passing(facts),
        "id": randomness.token_hex(4),
        "created": time.time(),
        "topology_file": lab.meta["topology_file"],
        "cloned_from": lab.name,
        "stack": list(frozen),
        "snapshots": {},
        **own,
    }
    copy = Lab(paths.labs() / spec.name, spec, meta)
    try:
        for number in frozen:
            sparse.link(lab.layer(number), copy.layer(number))
        copy.meta["stack"] = [snaps.branch(copy, frozen), *frozen]
        copy.ensure_keys()
        copy.save()
    except (LabError, OSError):
        files.remove(copy.directory)
        raise
    if spec.has(Component.KEYSTONE):
        access.write(copy, copy.context.auth_url, copy.secrets())
    return copy
