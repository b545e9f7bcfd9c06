"""The verb snapshot: take, list, restore and delete snapshots of whole labs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from labctl.artefacts import place
from labctl.commands import complete
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import LabName, Output
from labctl.commands.terms import show_age
from labctl.errors import LabError
from labctl.host import files, paths, signature
from labctl.records.lab import Lab, locked
from labctl.topology.units import show_size

group = typer.Typer(no_args_is_help=True)


@contextmanager
def changing(name: str, command: str) -> Iterator[Lab]:
    """A recorded lab, locked while a command changes it, with progress shown and logged.

    :raises LabError: there is no such lab, or another command is changing it.
    """
    Lab.load(name)
    with locked(name, command), progress(paths.labs() / name / "events.jsonl"):
        lab = Lab.load(name)
        lab.driver.probe()
        yield lab


def _took(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


SnapshotName = Annotated[str, typer.Argument(help="name of the snapshot", autocompletion=complete.snapshots)]


@group.callback()
def snapshot() -> None:
    """Snapshots of a whole lab."""


@group.command()
def create(
    name: LabName,
    snapshot: Annotated[str | None, typer.Argument(help="name of the snapshot; default: the current time")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="leave the machines stopped; labctl repair starts them")] = False,
) -> None:
    """Take a snapshot of a running lab: machines stop, are frozen, and start again."""
    from labctl.lab import snapshot as snaps

    began, snapshot = time.monotonic(), snapshot or time.strftime("at-%Y%m%d-%H%M%S")
    with changing(name, f"labctl snapshot create {name} {snapshot}") as lab:
        made = snaps.create(lab, snapshot, stop=stop)
    out.print(f"{name}: snapshot {snapshot} taken in {_took(began)}, {show_size(snaps.used(lab, made))}")


@group.command("list")
def list_snapshots(name: LabName, output: Output = Format.TABLE) -> None:
    """List a lab's snapshots: age, disk usage, and which one the lab is based on."""
    from labctl.lab import snapshot as snaps

    lab = Lab.load(name)
    rows = []
    for found in snaps.snapshots(lab):
        size = snaps.used(lab, found)
        rows.append(
            {
                "name": found.name,
                "age": show_age(time.time() - found.created),
                "size": show_size(size),
                "parent": found.parent or "-",
                "stage": found.stage or "-",
                "current": "*" if found.stack[0] in lab.stack else "",
                "created": found.created,
                "bytes": size,
            }
        )
    listing(output, rows, ["name", "age", "size", "parent", "stage", "current"])


@group.command()
def restore(
    name: LabName,
    snapshot: Annotated[
        str | None, typer.Argument(help="name of the snapshot; default: the newest", autocompletion=complete.snapshots)
    ] = None,
) -> None:
    """Restore a lab to a snapshot; later changes are lost."""
    from labctl.lab import snapshot as snaps

    began = time.monotonic()
    with changing(name, f"labctl snapshot restore {name} {snapshot or ''}") as lab:
        if snapshot is None:
            found = snaps.snapshots(lab)
            if not found:
                raise LabError(f"{name} has no snapshots", f"labctl snapshot create {name}")
            snapshot = found[-1].name
        snaps.restore(lab, snapshot)
    out.print(f"{name}: restored to {snapshot} in {_took(began)}")


@group.command()
def delete(name: LabName, snapshot: SnapshotName) -> None:
    """Delete a snapshot, and the layers that nothing else uses."""
    from labctl.lab import snapshot as snaps

    with changing(name, f"labctl snapshot delete {name} {snapshot}") as lab:
        snaps.delete(lab, snapshot)
    out.print(f"{name}: snapshot {snapshot} deleted")


@group.command("export")
def export(
    name: LabName,
    snapshot: SnapshotName,
    where: Annotated[
        str | None, typer.Argument(metavar="TARGET|URL", help="where to write it; default: LAB-NAME.tar.zst")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="sign the file with this SSH key, in FILE.sig")
    ] = None,
) -> None:
    """Export a snapshot to one file that another machine can import; it contains the lab's keys.

    The file is on this machine, or at an https, s3 or swift URL; a command that was cut off goes on when it is
    repeated.
    """
    from labctl.lab import elsewhere, portable

    began, where = time.monotonic(), where or f"{name}-{snapshot}.tar.zst"
    path, shown = place.local(where), place.hidden(where)
    with changing(name, f"labctl snapshot export {name} {snapshot}") as lab:
        if path is None:
            size = elsewhere.export(lab, snapshot, where, key)
        else:
            path, shown = path.absolute(), str(path.absolute())
            files.discard(signature.of(path))  # it is of the file before
            size = portable.export(lab, snapshot, path)
            if key is not None:
                signature.sign(path, key)
    out.print(f"{name}: snapshot {snapshot} exported in {_took(began)}, {show_size(size)}: {shown}")


@group.command("import")
def import_(
    where: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL", help="what labctl snapshot export wrote: a file, or an https, s3 or swift URL"
        ),
    ],
    boot: Annotated[bool, typer.Option("--boot", help="discard saved memory; machines boot from their disks")] = False,
    signers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="refuse the file unless one of these signed it: ssh-keygen's allowed_signers"
        ),
    ] = None,
) -> None:
    """Create a stopped lab from an exported snapshot; labctl snapshot restore starts it.

    A download that was cut off goes on when the command is repeated.
    """
    from labctl.lab import elsewhere

    began = time.monotonic()
    with progress(), elsewhere.opened(where) as export:
        lab, snapshot = export.header.entry.spec.name, export.header.name
        with locked(lab, f"labctl snapshot import {export.shown}"):
            export.import_(boot=boot, signers=signers)
    out.print(f"{lab}: imported in {_took(began)}\n  try: labctl snapshot restore {lab} {snapshot}")
