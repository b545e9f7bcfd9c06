"""The command line: the options before a verb. The verbs are in labctl.commands, one file a group."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl import __version__
from labctl.commands import complete
from labctl.commands.verbs import Verbs

app = typer.Typer(
    name="labctl",
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"labctl {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="print the version")
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            metavar="URL", envvar=complete.ELSEWHERE, help="run the command on another machine: ssh://user@machine"
        ),
    ] = "",
) -> None:
    """Deploy OpenStack labs from one file, test them end to end, remove them without a trace."""
    if host:
        from labctl.commands import elsewhere  # only this option speaks SSH

        raise typer.Exit(elsewhere.run(host, context.command, context.obj))
