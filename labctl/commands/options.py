"""Options shared by the verbs that take a topology, and the choice made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from labctl.commands import complete
from labctl.commands.console import Format, progress
from labctl.lab import up as bring
from labctl.lab.choose import Choice, choose, draft
from labctl.progress import note
from labctl.records import hints
from labctl.topology import load
from labctl.topology.model import Topology
from labctl.topology.spec import LabSpec

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


def _beside(place: Path, where: str) -> str:
    """A source of a topology, whose relative paths begin at its file."""
    return str(place / where) if (place / where.partition("@")[0]).exists() else where


@dataclass(frozen=True)
class Wanted:
    """A topology and the options given with it."""

    topology: str
    name: str | None = None
    release: str | None = None
    base: str | None = None
    driver: str | None = None
    cloud: str | None = None

    def command(self, verb: str, start: str | None = None) -> str:
        """The command line that asks for this, beginning from something."""
        return hints.line(verb, **{**vars(self), "from": start})

    def known(self) -> bool:
        """Whether the topology is a known name or a file."""
        return self.topology == "-" or self.topology in load.known() or load.there(Path(self.topology))

    def draft(self) -> LabSpec:
        """The lab's spec for display, even where this machine cannot create it."""
        topology, path = self._read()
        choice = draft(topology, name=self.name, base=self.base, driver=self.driver, cloud=self.cloud)
        self._announce(choice, path)
        return bring.grown(choice.spec)

    def sources(self, given: Sequence[str]) -> tuple[list[str], Path]:
        """The sources of projects that were given, and those of the topology; what relative paths begin at."""
        topology, path = self._read()
        named = {word.partition("=")[0] for word in given}
        place = path.resolve().parent
        own = [f"{name}={_beside(place, where)}" for name, where in topology.sources.items() if name not in named]
        return [*given, *own], Path.cwd()

    def specify(self, *, again: bool = True) -> tuple[LabSpec, Path]:
        """The lab's spec and the topology's file; reports the choice and its reasons.

        :param again: with the nodes that joined the recorded lab; without them it can begin from before they did.
        """
        topology, path = self._read()
        choice = choose(topology, name=self.name, base=self.base, driver=self.driver, cloud=self.cloud)
        self._announce(choice, path)
        return bring.grown(choice.spec) if again else choice.spec, path

    def _read(self) -> tuple[Topology, Path]:
        with progress():
            return bring.read(self.topology, self.release)

    def _announce(self, choice: Choice, path: Path) -> None:
        """Report the choice, and the file if the working directory has one of that name."""
        with progress():
            if load.local(path) and str(path) != self.topology:
                note("lab", f"the topology {self.topology} is ./{path}")
            choice.announce()
