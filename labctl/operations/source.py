"""A project's own tree on a node, before the modules of its release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labctl.operations.node import quote

FUNCTIONS = Path(__file__).with_name("source.sh")
#: Where nodes have the trees: PROJECT/LAYER below it.
PLACE = "/opt/openstack/source"


@dataclass(frozen=True)
class SourceTree:
    """A project's tree is used; the engine has brought it (its image is ``layer``).

    ``python`` is the interpreter whose modules it stands before.
    """

    project: str
    layer: str
    python: str

    @property
    def title(self) -> str:
        return f"use {self.layer}"

    @property
    def path(self) -> str:
        """Its directory on the node."""
        return f"{PLACE}/{self.project}/{self.layer}"

    def shell(self) -> str:
        return "use_source " + " ".join(quote(w) for w in (self.project, self.layer, self.python))

    def guide(self) -> str:
        return f"{self.python} -m pip install --no-deps --prefix {self.path} {self.project.upper()}"


@dataclass(frozen=True)
class NoSource:
    """A project is the release's own again."""

    project: str
    python: str

    @property
    def title(self) -> str:
        return f"use the release's {self.project}"

    def shell(self) -> str:
        return "drop_source " + " ".join(quote(w) for w in (self.project, self.python))

    def guide(self) -> str:
        return f"rm -r {PLACE}/{self.project}"
