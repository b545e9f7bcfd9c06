"""The verb doctor: check this host."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.commands.console import Format, listing, out, progress
from labctl.doctor import host, vagrant


def doctor(
    output: Annotated[Format, typer.Option("-o", "--output", help="table or json")] = Format.TABLE,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="boot a kernel under KVM again instead of using the cached result")
    ] = False,
    cloud: Annotated[
        str | None,
        typer.Option(metavar="CLOUD", help="also ask a cloud, of clouds.yaml or lab:LAB, what labs would find there"),
    ] = None,
) -> None:
    """Check whether this host can run labs, and with what; each problem comes with its next step."""
    from labctl.doctor import cloud as clouds

    with progress():
        found = host.examine(fresh=fresh) + vagrant.examine() + clouds.examine(cloud)
    listing(output, [vars(f) for f in found], ["check", "state", "found"])
    problems = [f for f in found if f.state is host.State.PROBLEM]
    if output is Format.TABLE:
        for finding in found:
            if finding.hint:
                out.print(f"{finding.check}: {finding.hint}")
    if problems:
        raise typer.Exit(1)
