"""Maintenance verbs: repair, clone, gc."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from labctl.commands.console import Format, out, progress
from labctl.commands.options import LabName, Output
from labctl.commands.snapshot import changing
from labctl.errors import LabError
from labctl.host import paths
from labctl.lab import clone as clones
from labctl.lab import gc as garbage
from labctl.lab import repair as repairs
from labctl.records.lab import locked
from labctl.topology.units import show_size


def repair(name: LabName) -> None:
    """Restore a lab's lost machines, mounts and networks, as after a host reboot, and run the health check."""
    with changing(name, f"labctl repair {name}") as lab:
        started = repairs.repair(lab)
    out.print(f"{name}: healthy" + (f"; started {', '.join(started)}" if started else "; nothing to do"))


def clone(name: LabName, new: Annotated[str, typer.Argument(metavar="NEW", help="name of the copy")]) -> None:
    """Clone a running lab: same addresses and secrets, its own network, keys and ids."""
    began, command = time.monotonic(), f"labctl clone {name} {new}"
    clones.check_name(new)
    with locked(new, command), changing(name, command) as lab:
        clones.clone(lab, new)
    out.print(f"{new}: cloned from {name} in {time.monotonic() - began:.1f} s; labctl info {new}")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be removed, remove nothing")] = False,
    images: Annotated[bool, typer.Option("--images", help="also images that no lab uses")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Remove leftovers: what labctl created and no lab owns any more, in this labctl home only."""
    found = garbage.find(images=images)
    rows = [
        {"kind": f.kind, "name": f.name, "size": show_size(f.size), "parts": list(f.parts), "bytes": f.size}
        for f in found
    ]
    left: list[str] = []
    if not dry_run and found:
        with progress():
            left = garbage.remove(found)
    if output is Format.JSON:
        typer.echo(
            json.dumps({"home": str(paths.home()), "removed": not dry_run, "found": rows, "left": left}, indent=1)
        )
    elif not found:
        out.print(f"no leftovers in {paths.home()}")
    else:
        for finding in found:
            out.print(f"{finding.kind} {finding.name} ({show_size(finding.size)})", style="bold")
            for part in finding.parts:
                out.print(f"  {part}")
        total = show_size(sum(f.size for f in found))
        out.print(f"{'would remove' if dry_run else 'removed'} {len(found)} leftovers, {total}")
    if left:
        raise LabError(f"could not remove: {', '.join(left)}", "labctl gc")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(repair)
    app.command()(clone)
    app.command()(gc)
