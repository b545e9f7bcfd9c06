"""Whether a lab, or a snapshot of one, is what a topology describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.errors import RefusedError
from labctl.topology.join import kept
from labctl.topology.spec import LabSpec

#: Fields of a spec that only an upgrade changes in a lab's life.
IDENTITY = ("topology", "release", "base", "driver", "cloud")
#: In the record of a lab that was upgraded: what its topology says of these fields.
UPGRADED = "upgraded"


def require_fit(spec: LabSpec, path: Path, was: LabSpec, facts: Mapping[str, Any], said: tuple[str, str, str]) -> None:
    """Check that what is there can be converged to a newly chosen spec.

    :param path: the topology's file.
    :param was: the spec of what is there, and ``facts``: the rest of its record.
    :param said: what it is called, what it does with a wrong field, and a hint: ``("the lab a", "has", "")``.
    :raises RefusedError: it is of another topology, release, base or driver; or nodes, cards or networks differ.
    """
    what, has, hint = said
    origin = facts.get(UPGRADED, {})
    for field in IDENTITY:
        found, wanted = getattr(was, field), getattr(spec, field)
        if wanted not in (found, origin.get(field)):
            raise RefusedError(f"{what} {has} {field} {found}, not {wanted}", hint)
    if not origin and _shape(was) != _shape(kept(spec, was)):
        raise RefusedError(f"nodes, cards or networks in {path} differ from {what}", hint)


def _shape(spec: LabSpec) -> object:
    return [
        [(n.name, n.interfaces, n.disks) for n in spec.nodes.values()],
        [(n.name, n.cidr, n.gateway, n.nat) for n in spec.networks.values()],
    ]
