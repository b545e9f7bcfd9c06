"""What a lab can begin from instead of nothing: one of its snapshots, or an exported one, here or elsewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from labctl.errors import RefusedError
from labctl.lab import elsewhere, snapshot
from labctl.lab.fit import require_fit
from labctl.progress import note
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.topology.model import NAME
from labctl.topology.spec import LabSpec


def is_snapshot(start: str) -> bool:
    """Whether this is a snapshot's name rather than a file or a URL."""
    return bool(re.fullmatch(NAME, start))


def begin(spec: LabSpec, path: Path, start: str) -> None:
    """Restore a lab to what it shall begin from; the caller holds its lock.

    :param path: the topology's file.
    :param start: the name of a snapshot of it; or a file or URL of an exported one, which is imported first unless the
        lab is here.
    :raises RefusedError: it is of another topology, release, base, driver or shape; nothing was touched.
    :raises LabError: it cannot be brought here or restored.
    """
    if is_snapshot(start):
        lab = Lab.load(spec.name)
        found = snapshot.find(lab, start)
        hint = f"labctl snapshot restore {spec.name} {start} restores it as it is"
        require_fit(spec, path, found.spec, found.facts, (f"the snapshot {start}", "has", hint))
        snapshot.restore(lab, start)
        return
    with elsewhere.opened(start) as export:
        header = export.header
        if header.entry.spec.name != spec.name:
            raise RefusedError(
                f"{export.shown} is of a lab named {header.entry.spec.name}, not {spec.name}",
                f"the same command with --name {header.entry.spec.name}",
            )
        hint = f"labctl snapshot import {shlex.quote(export.shown)} imports it as it is"
        require_fit(spec, path, header.entry.spec, header.entry.facts, (export.shown, "has", hint))
        lab = _here(export) if exists(spec.name) else export.import_()
    snapshot.restore(lab, header.name)


def _here(export: elsewhere.Export) -> Lab:
    """The lab of an export that was imported before.

    :raises RefusedError: the lab of its name is another one, or has no such snapshot any more.
    """
    header, lab = export.header, Lab.load(export.header.entry.spec.name)
    same = next((s for s in snapshot.snapshots(lab) if s.name == header.name), None)
    if lab.id != header.id or same is None or same.created != header.entry.created:
        raise RefusedError(
            f"a lab named {lab.name} already exists, and is not what {export.shown} has",
            f"labctl down {lab.name}; then the same command again",
        )
    note("lab", f"{export.shown} was imported already")
    return lab
