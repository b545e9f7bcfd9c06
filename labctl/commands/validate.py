"""Verbs about topology files: validate, schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from labctl.commands import complete
from labctl.commands.console import out, progress
from labctl.commands.options import ReleaseName


def validate(
    topologies: Annotated[
        list[str],
        typer.Argument(metavar="TOPOLOGY", help="names or files", autocompletion=complete.topologies),
    ],
    release: ReleaseName = None,
) -> None:
    """Check topology files; print every problem with file:line:column."""
    from labctl.topology import load

    for item in topologies:
        with progress():
            topology, path = load.named(item, release)
        nodes = ", ".join(topology.nodes)
        out.print(f"{path}: valid ({topology.release} on {' or '.join(topology.bases)}; {nodes})")


def schema() -> None:
    """Print the JSON schema of topology files, for editors."""
    from labctl.topology import schema as topology_schema

    typer.echo(json.dumps(topology_schema.schema(), indent=1))
