"""Verbs that show topologies: topologies, graph."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.commands import complete
from labctl.commands.console import Format, listing
from labctl.commands.options import BaseName, DriverName, Output, ReleaseName
from labctl.errors import LabError
from labctl.records.directory import exists
from labctl.records.lab import Lab
from labctl.topology.known import known
from labctl.topology.units import show_size


class Drawn(StrEnum):
    """What a graph is printed as."""

    SVG = "svg"
    MERMAID = "mermaid"
    JSON = "json"


def topologies(output: Output = Format.TABLE) -> None:
    """List the topologies of the working directory, and labctl's own."""
    rows = [_row(name, file) for name, file in _known().items()]
    listing(output, rows, ["name", "release", "bases", "nodes", "memory", "description"])


def _known() -> dict[str, Path]:
    """By what a user types for each: a name, or a file of the working directory."""
    from labctl.topology import load

    return {**{str(file): file for file in load.here()}, **known()}


def _row(name: str, file: Path) -> dict[str, Any]:
    from labctl.topology import load

    try:
        topology = load.load(file)
    except LabError as error:
        return {"name": name, "description": error.message.splitlines()[0], "file": str(file)}
    nodes = topology.nodes
    return {
        "name": name,
        "release": topology.release,
        "bases": " ".join(topology.bases),
        "nodes": len(nodes),
        "memory": show_size(sum(node.memory for node in nodes.values())),
        "description": topology.description,
        "file": str(file),
    }


def graph(
    topology: Annotated[
        str,
        typer.Argument(
            metavar="TOPOLOGY", help="name of a lab or of a topology, or a file", autocompletion=complete.either
        ),
    ],
    release: ReleaseName = None,
    base: BaseName = None,
    driver: DriverName = None,
    output: Annotated[Drawn, typer.Option("-o", "--output", help="svg, mermaid or json")] = Drawn.SVG,
) -> None:
    """Draw a lab or a topology: networks, nodes, cards with their addresses, and what runs where."""
    from labctl.commands.wanted import Wanted
    from labctl.plan import drawing
    from labctl.plan import graph as graphs

    if exists(topology) and not any((release, base, driver)):
        spec = Lab.load(topology).spec
    else:
        spec = Wanted(topology, release=release, base=base, driver=driver).draft()
    drawn = graphs.graph(spec)
    match output:
        case Drawn.SVG:
            typer.echo(drawing.svg(drawn), nl=False)
        case Drawn.MERMAID:
            typer.echo(graphs.mermaid(drawn), nl=False)
        case Drawn.JSON:
            typer.echo(json.dumps(graphs.data(drawn), indent=1))
