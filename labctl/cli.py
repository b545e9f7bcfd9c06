"""The command line: verbs come from labctl.commands, one file a group."""

from __future__ import annotations

import typer

from labctl.commands import (
    doctor,
    enter,
    fault,
    guide,
    image,
    info,
    keep,
    life,
    logs,
    look,
    nightly,
    node,
    snapshot,
    tempest,
    vagrant,
)

app = typer.Typer(
    name="labctl",
    help="Real OpenStack labs from one file: made, proven end to end, and removed without a trace.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (
    life,
    look,
    node,
    info,
    enter,
    snapshot,
    keep,
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
