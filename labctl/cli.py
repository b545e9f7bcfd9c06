"""The command line: verbs come from labctl.commands, one file a group."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl import __version__
from labctl.commands import (
    access,
    diagnose,
    doctor,
    exercise,
    fault,
    guide,
    image,
    info,
    inspect,
    lifecycle,
    logs,
    maintenance,
    nightly,
    node,
    pool,
    snapshot,
    source,
    tempest,
    upgrade,
    vagrant,
)

app = typer.Typer(
    name="labctl",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labctl {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="print the version")
    ] = False,
) -> None:
    """Deploy OpenStack labs from one file, test them end to end, remove them without a trace."""


for group in (
    lifecycle,
    inspect,
    node,
    info,
    access,
    snapshot,
    pool,
    maintenance,
    fault,
    logs,
    nightly,
    tempest,
    diagnose,
    exercise,
    doctor,
    image,
    guide,
    upgrade,
    source,
    vagrant,
):
    group.register(app)
