"""Names for the shell's completion, from the names of files and two records: no lab is opened, no topology checked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import typer

from labctl.host import paths
from labctl.records import directory
from labctl.topology.known import known

#: With this set, labs are on another machine.
ELSEWHERE = "LABCTL_HOST"


def names(incomplete: str) -> list[str]:
    """The labs of this machine."""
    return _beginning(incomplete, [] if os.environ.get(ELSEWHERE) else directory.names())


def topologies(incomplete: str) -> list[str]:
    """The topologies known by name; the shell itself completes files where none of them fits."""
    return _beginning(incomplete, known())


def either(incomplete: str) -> list[str]:
    """Labs and topologies."""
    return [*names(incomplete), *topologies(incomplete)]


def nodes(context: typer.Context, incomplete: str) -> list[str]:
    """The nodes of the lab that is named before, and those that may join it."""
    spec = _record(context).get("spec", {})
    return _beginning(incomplete, [*spec.get("nodes", ()), *spec.get("later", ())])


def snapshots(context: typer.Context, incomplete: str) -> list[str]:
    """The snapshots of that lab."""
    return _beginning(incomplete, _record(context).get("snapshots", ()))


def _beginning(incomplete: str, found: Iterable[str]) -> list[str]:
    return sorted(name for name in found if name.startswith(incomplete))


def _record(context: typer.Context) -> dict[str, Any]:
    """A lab's record as it is written; empty where there is none, or it cannot be read."""
    # the parser stops at an option whose value is still to come, before it looks at arguments
    given = [context.params.get("name"), *context.args]
    name = next((word for word in given if word in names("")), None)
    try:
        found: Any = json.loads((paths.labs() / name / directory.RECORD).read_bytes()) if name else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
