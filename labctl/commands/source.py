"""The verb source: projects of a running lab from somebody's own tree."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from labctl.commands.console import Format, listing, out
from labctl.commands.options import LabName, Output
from labctl.commands.snapshot import changing
from labctl.commands.terminal import complain
from labctl.errors import LabError
from labctl.records.lab import Lab

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROJECT=WHERE",
        help="a directory, a repository with @REF, a source distribution or wheel, or the word release",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="also a tree of another release, or one whose requirements are not met")
]
COLUMNS = ["project", "version", "commit", "origin"]


def source(
    name: LabName,
    where: Sources = None,
    force: Force = False,
    watch: Annotated[bool, typer.Option("--watch", help="follow edits of working trees, until ^C")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List the projects that a lab runs from a source of their own, or give it other ones."""
    if where:
        _change(name, where, force, quiet=output is Format.JSON)
    if watch:
        _watch(name, force)
    elif not where or output is Format.JSON:
        listing(output, _rows(Lab.load(name)), COLUMNS)


def _change(name: str, where: list[str], force: bool, quiet: bool = False) -> None:
    from labctl.lab import source as sources

    began = time.monotonic()
    with changing(name, f"labctl source {name} {' '.join(where)}") as lab:
        made = sources.change(lab, where, Path.cwd(), force=force)
    if quiet:
        return
    for each in made:
        out.print(f"{each.project}: {each.before} -> {each.after}")
    out.print(f"{name}: {', '.join(each.project for each in made)} in {time.monotonic() - began:.1f} s")


def _watch(name: str, force: bool) -> None:
    """Bring edits to the lab; one that fails is told, and the next may mend it."""
    from labctl.lab import source as sources

    lab = Lab.load(name)
    edited = sources.watch(lab)
    out.print(f"{name}: waiting for edits; ^C ends it")
    for project in edited:
        try:
            _change(name, [f"{project}={lab.spec.sources[project].origin}"], force)
        except LabError as error:
            complain(error.message, error.hint)


def _rows(lab: Lab) -> list[dict[str, object]]:
    from labctl.lab import source as sources

    spec = lab.spec
    return [
        {
            "project": project,
            "version": spec.sources[project].version if project in spec.sources else "",
            "commit": _commit(lab, project),
            "origin": spec.sources[project].origin if project in spec.sources else "release",
            **({"dirty": spec.sources[project].dirty} if project in spec.sources else {}),
        }
        for project in sources.projects(spec)
    ]


def _commit(lab: Lab, project: str) -> str:
    known = lab.spec.sources.get(project)
    if known is None or not known.commit:
        return ""
    return known.commit[:12] + (" changed" if known.dirty else "")
