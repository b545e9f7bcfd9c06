"""Bring projects' own trees from the image store to the nodes that use them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from labctl.errors import LabError
from labctl.host.ssh import Session
from labctl.images import store
from labctl.operations.node import quote
from labctl.operations.source import SourceTree
from labctl.plan.planner import Stage
from labctl.records.lab import Lab

#: Of gzip: the network between labctl and a node is fast.
LEVEL = 1


def bring(lab: Lab, sessions: Mapping[str, Session], stage: Stage) -> list[str]:
    """Bring the trees that a stage uses, where they are not yet; "changed" or "ok" for each.

    :raises LabError: one is not in the store, or a node cannot take it.
    """
    states: list[str] = []
    packed: dict[str, bytes] = {}
    for node in stage.nodes:
        for tree in (operation for operation in stage.on(node) if isinstance(operation, SourceTree)):
            place, session = quote(tree.path), sessions[node]
            if session.run(f"test -e {place}/whole", timeout=30).status == 0:
                states.append("ok")
                continue
            if tree.layer not in packed:
                packed[tree.layer] = _packed(lab, tree)
            unpack = f"rm -rf {place}; mkdir -p {place} && tar -C {place} --no-same-owner -xzf - && touch {place}/whole"
            done = session.run(unpack, timeout=300, stdin=packed[tree.layer])
            if done.status != 0:
                raise LabError(f"{node}: {tree.path}: {done.stderr.strip()}", f"labctl ssh {lab.name} {node}")
            states.append("changed")
    return states


def _packed(lab: Lab, tree: SourceTree) -> bytes:
    try:
        place = store.tree(tree.layer)
    except LabError as error:
        raise LabError(error.message, f"labctl source {lab.name} {tree.project}=release, or its tree again") from error
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=LEVEL) as packed:
        packed.add(place, ".")
    return buffer.getvalue()
