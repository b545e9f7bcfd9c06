"""What the verbs that take a topology and options were asked for, and the choice made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.commands.console import progress
from labctl.lab import up as bring
from labctl.lab.choose import Choice, choose, draft
from labctl.progress import note
from labctl.records import hints
from labctl.topology import load
from labctl.topology.known import known, local
from labctl.topology.model import Topology
from labctl.topology.spec import LabSpec


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
        return self.topology == "-" or self.topology in known() or load.there(Path(self.topology))

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
            return load.named(self.topology, self.release)

    def _announce(self, choice: Choice, path: Path) -> None:
        """Report the choice, and the file if the working directory has one of that name."""
        with progress():
            if local(path) and str(path) != self.topology:
                note("lab", f"the topology {self.topology} is ./{path}")
            choice.announce()
