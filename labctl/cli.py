"""The command line: verbs come from labctl.commands, one file a group."""

from __future__ import annotations

import typer

from labctl.commands import (
    access,
    doctor,
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
    snapshot,
    tempest,
    vagrant,
)

app = typer.Typer(
    name="labctl",
    help="Deploy OpenStack labs from one file, test them end to end, remove them without a trace.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (
    lifecycle,
    inspect,
    node,
    info,
    access,
    snapshot,
    maintenance,
    fault,
    logs,
    nightly,
    tempest,
    doctor,
    image,
    guide,
    vagrant,
):
    group.register(app)
