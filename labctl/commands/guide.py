"""The verb guide: a lab's plan as an install guide, and its upgrade."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.commands.options import BaseName, DriverName, ReleaseName, TopologyName
from labctl.records.directory import exists
from labctl.records.lab import Lab


def guide(
    topology: TopologyName,
    release: ReleaseName = None,
    base: BaseName = None,
    driver: DriverName = None,
    lang: Annotated[str, typer.Option(help="language of headings and remarks: en or ko")] = "en",
    to: Annotated[
        str, typer.Option("--upgrade-to", metavar="RELEASE", help="instead: the way from there to a later release")
    ] = "",
    mechanism: Annotated[
        str, typer.Option(metavar="DRIVER", help="of that way: the mechanism driver to have at the end")
    ] = "",
) -> None:
    """Print a lab's install guide: chapter by chapter, node by node, with the purpose of each step."""
    from labctl.commands.wanted import Wanted
    from labctl.lab.choose import has_datapath
    from labctl.plan import guide as document
    from labctl.upgrade import chain
    from labctl.upgrade import guide as upgrades

    wanted = Wanted(topology, release=release, base=base, driver=driver)
    if not to and not mechanism:
        typer.echo(document.guide(wanted.draft(), lang), nl=False)
        return
    given = any((release, base, driver)) or not exists(topology)
    spec = wanted.draft() if given else Lab.load(topology).spec
    hops = chain.plan(spec, to, mechanism=mechanism, kernel=has_datapath(spec), by_hand=True)
    options = {"--release": release, "--base": base, "--driver": driver, "--upgrade-to": to, "--mechanism": mechanism}
    words = "".join(f" {option} {value}" for option, value in options.items() if value)
    if not hops:
        typer.echo(f"{topology} is there: nothing to do")
        return
    typer.echo(upgrades.guide(hops, f"labctl guide {topology}{words}", lang), nl=False)
