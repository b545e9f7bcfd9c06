"""The verb guide: a lab's plan as an install guide."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.commands.options import BaseName, DriverName, ReleaseName, TopologyName, Wanted
from labctl.plan import guide as document


def guide(
    topology: TopologyName,
    release: ReleaseName = None,
    base: BaseName = None,
    driver: DriverName = None,
    lang: Annotated[str, typer.Option(help="language of headings and remarks: en or ko")] = "en",
) -> None:
    """Print a lab's install guide: chapter by chapter, node by node, with the purpose of each step."""
    wanted = Wanted(topology, release=release, base=base, driver=driver)
    typer.echo(document.guide(wanted.draft(), lang), nl=False)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(guide)
