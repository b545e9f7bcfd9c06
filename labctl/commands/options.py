"""Arguments and options that several verbs have."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.commands import complete
from labctl.commands.console import Format

#: More than any number of runs, labs, workers that somebody means.
MANY = 10**6
#: For every verb that lists something.
Output = Annotated[Format, typer.Option("-o", "--output", help="table or json")]
TopologyName = Annotated[
    str,
    typer.Argument(metavar="TOPOLOGY", help="name of a known topology, or a file", autocompletion=complete.topologies),
]
LabName = Annotated[str, typer.Argument(metavar="LAB", help="name of the lab", autocompletion=complete.names)]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="name of the node", autocompletion=complete.nodes)]
OwnName = Annotated[str | None, typer.Option(help="name of the lab; default: the topology's")]
ReleaseName = Annotated[str | None, typer.Option(help="another release with the same layout")]
BaseName = Annotated[
    str | None, typer.Option(help="operating system of the nodes; default: the topology's first that is possible here")
]
DriverName = Annotated[
    str | None,
    typer.Option(help="how machines are created; root in a container (nspawn) is root on this host, in libvirt's not"),
]
CloudName = Annotated[
    str | None,
    typer.Option(metavar="CLOUD", help="with --driver openstack: a cloud of clouds.yaml, or lab:LAB"),
]
