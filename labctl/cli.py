"""The command line: verbs come from labctl.commands, one file a group."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labctl import __version__
from labctl.commands import (
    access,
    complete,
    diagnose,
    doctor,
    elsewhere,
    exercise,
    fault,
    forward,
    graph,
    guide,
    image,
    info,
    inspect,
    inventory,
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


class Verbs(TyperGroup):
    """The verbs, which also say what follows the options before them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the words of the verb: another machine's labctl may have to read them."""
        _, ctx.obj, _ = self.make_parser(ctx).parse_args(list(args))
        return super().parse_args(ctx, args)


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
        raise typer.Exit(elsewhere.run(host, context.command, context.obj))


for group in (
    lifecycle,
    inspect,
    node,
    info,
    access,
    forward,
    inventory,
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
    graph,
    upgrade,
    source,
    vagrant,
):
    group.register(app)
