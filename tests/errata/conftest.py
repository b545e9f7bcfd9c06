"""The labs of the notes, as labctl would install them: what the mistakes of the notes are looked for in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pytest
from support import ROOT, planned, specify

from labctl.operations.node import Operation, flatten
from labctl.plan import guide
from labctl.plan.planner import Plan
from labctl.topology.spec import LabSpec

DOCUMENTED = {"mitaka-3node": "centos7", "rocky-2node": "centos7", "train-2node": "centos7", "ussuri-6node": "centos8"}


@dataclass(frozen=True)
class Setting:
    """One line of a configuration file that oslo.config reads."""

    node: str
    file: str
    section: str
    option: str
    value: str


@dataclass(frozen=True)
class Lab:
    """A documented lab: its spec, plan, files and everything that is typed."""

    spec: LabSpec
    plan: Plan

    @cached_property
    def files(self) -> Mapping[str, Mapping[str, str]]:
        """node -> path -> content."""
        return {node: {f.path: f.content for f in self.plan.files(node)} for node in self.spec.nodes}

    @cached_property
    def document(self) -> str:
        return guide.guide(self.spec)

    @cached_property
    def lines(self) -> list[tuple[str, str]]:
        """(nodes, line) of everything that is typed on a shell; lines that go on keep their node."""
        found: list[tuple[str, str]] = []
        for block in re.findall(r"^```console\n(.*?)^```$", self.document, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if begun := re.match(r"([a-z0-9&-]+)# (.*)", line):
                    found.append((begun[1], begun[2]))
                elif line.startswith("> "):
                    found.append((found[-1][0], line[2:]))
        return found

    @cached_property
    def typed(self) -> str:
        return "\n".join(line for _, line in self.lines)

    @cached_property
    def sql(self) -> list[str]:
        """Every statement that is typed in the database's client."""
        return re.findall(r"^MariaDB \[\(none\)\]> (.*)$", self.document, re.MULTILINE)

    @cached_property
    def settings(self) -> list[Setting]:
        return list(self._settings())

    def _settings(self) -> Iterator[Setting]:
        for node, path, content in self.inis():
            section = ""
            for line in content.splitlines():
                if line.startswith("["):
                    section = line[1 : line.index("]")]
                elif line and not line.startswith("#"):
                    option, _, value = line.partition("=")
                    yield Setting(node, path, section, option.strip(), value.strip())

    def inis(self) -> Iterator[tuple[str, str, str]]:
        """(node, path, content) of every file that oslo.config or PasteDeploy reads."""
        for node, files in self.files.items():
            for path, content in files.items():
                if content.startswith("# Made by labctl; changes"):
                    yield node, path, content

    def value(self, node: str, file: str, section: str, option: str) -> str | None:
        """The value of an option; ``file`` is a base name."""
        return next(
            (
                s.value
                for s in self.settings
                if (s.node, s.section, s.option) == (node, section, option) and s.file.endswith(f"/{file}")
            ),
            None,
        )

    def operations(self, stage: str, node: str) -> tuple[Operation, ...]:
        """A node's operations in a stage, in their order."""
        (found,) = (s for s in self.plan.stages if s.name == stage)
        return (*flatten(tuple(found.nodes.get(node, ()))), *flatten(tuple(found.after.get(node, ()))))

    def titles(self, stage: str, node: str) -> list[str]:
        return [o.title for o in self.operations(stage, node)]


@pytest.fixture(scope="session")
def labs() -> dict[str, Lab]:
    """Every documented lab, on the base of the notes."""
    made = {}
    for name, base in DOCUMENTED.items():
        spec = specify(ROOT / "topologies" / f"{name}.yaml", base=base)
        made[name] = Lab(spec, planned(spec))
    return made


@pytest.fixture(params=DOCUMENTED)
def lab(request: pytest.FixtureRequest, labs: dict[str, Lab]) -> Lab:
    """Each documented lab in turn."""
    return labs[request.param]


@pytest.fixture
def train(labs: dict[str, Lab]) -> Lab:
    return labs["train-2node"]


@pytest.fixture
def mitaka(labs: dict[str, Lab]) -> Lab:
    return labs["mitaka-3node"]


@pytest.fixture
def ussuri(labs: dict[str, Lab]) -> Lab:
    return labs["ussuri-6node"]
