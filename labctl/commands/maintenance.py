"""Maintenance verbs: repair, clone, gc."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.commands import terms
from labctl.commands.console import Format, out, progress
from labctl.commands.options import LabName, Output
from labctl.commands.snapshot import changing
from labctl.errors import LabError
from labctl.host import paths
from labctl.records.lab import locked
from labctl.records.lease import Terms
from labctl.topology.units import show_size

if TYPE_CHECKING:
    from labctl.lab import expiry
    from labctl.lab.finding import Finding


def repair(name: LabName) -> None:
    """Restore a lab's lost machines, mounts and networks, as after a host reboot, and run the health check."""
    from labctl.lab import repair as repairs

    with changing(name, f"labctl repair {name}") as lab:
        started = repairs.repair(lab)
    out.print(f"{name}: healthy" + (f"; started {', '.join(started)}" if started else "; nothing to do"))


def clone(
    name: Annotated[str, typer.Argument(metavar="LAB[/SNAPSHOT]", help="a running lab, or any lab at a snapshot")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="name of the copy")],
    ttl: terms.Ttl = None,
    owner: terms.Owner = None,
) -> None:
    """Clone a running lab, or a snapshot: same addresses and secrets, its own network, keys and ids."""
    from labctl.lab import clone as clones

    began, command, given = time.monotonic(), f"labctl clone {name} {new}", Terms.given(owner, ttl)
    source, slash, snapshot = name.partition("/")
    clones.check_name(new)
    with locked(new, command), changing(source, command) as lab:
        if slash:
            clones.clone_snapshot(lab, snapshot, new, given)
        else:
            clones.clone(lab, new, given)
    out.print(f"{new}: cloned from {name} in {time.monotonic() - began:.1f} s; labctl info {new}")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be removed, remove nothing")] = False,
    images: Annotated[bool, typer.Option("--images", help="also images that no lab uses")] = False,
    expired: Annotated[bool, typer.Option("--expired", help="also labs whose --ttl is over")] = False,
    timer: Annotated[
        Path | None,
        typer.Option(
            "--install-timer", metavar="TARGET", help="write systemd's units that run gc --expired, remove nothing"
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Remove leftovers: what labctl created and no lab owns any more, in this labctl home only."""
    from labctl.lab import expiry
    from labctl.lab import gc as garbage

    if timer is not None:
        _install(timer)
        return
    over, held = expiry.find() if expired else ([], [])
    found = [*over, *garbage.find(images=images, besides={finding.name for finding in over})]
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
            json.dumps(
                {
                    "home": str(paths.home()),
                    "removed": not dry_run,
                    "found": rows,
                    "held": [vars(lab) for lab in held],
                    "left": left,
                },
                indent=1,
            )
        )
    else:
        _print_found(found, held, "would remove" if dry_run else "removed")
    if left:
        raise LabError(f"could not remove: {', '.join(left)}", "labctl gc --expired" if expired else "labctl gc")


def _print_found(found: list[Finding], held: list[expiry.Held], verb: str) -> None:
    from labctl.lab import expiry

    for lab in held:
        out.print(f"{lab.name} has expired and is left, because a command works on it: {lab.holder}")
    for finding in found:
        out.print(f"{finding.kind} {finding.name} ({show_size(finding.size)})", style="bold")
        for part in finding.parts:
            out.print(f"  {part}")
    if not found:
        out.print(f"no leftovers in {paths.home()}")
        return
    labs = sum(f.kind == expiry.KIND for f in found)
    total = show_size(sum(f.size for f in found))
    out.print(f"{verb} {f'{labs} expired labs, ' if labs else ''}{len(found) - labs} leftovers, {total}")


def _install(directory: Path) -> None:
    from labctl.lab import expiry

    for path in expiry.install(directory):
        out.print(str(path))
    out.print("  try: systemctl daemon-reload; systemctl enable --now labctl-gc.timer")
