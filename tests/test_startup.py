"""Commands that ask nothing wait for nothing: which modules they must not load."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from support import ROOT, specify, write

from labctl.commands import verbs
from labctl.host import process
from labctl.records.journal import Journal, StageRecord
from labctl.records.lab import Lab

#: What speaks to nodes, APIs and the network, draws up plans, builds images: nothing that a look at files needs.
WORK = {
    *("openstack", "keystoneauth1", "requests", "paramiko", "cryptography", "jinja2", "libvirt", "fsspec", "asyncio"),
    *("labctl.plan.planner", "labctl.services", "labctl.engine", "labctl.images.golden", "labctl.lab.up"),
    *("labctl.diagnose.run", "labctl.remote", "labctl.nightly.run", "labctl.testing", "labctl.upgrade.run"),
}
TOPOLOGIES = {"yaml", "labctl.topology.load", "labctl.topology.check"}
RECORDS = {"labctl.records.lab", "labctl.drivers.base", "labctl.lab"}
MODELS = {"labctl.topology.model", "labctl.releases", "labctl.bases"}
LISTING = {"rich.table", "typer.rich_utils"}

_RUN = """
import sys
sys.argv = ["labctl", *sys.argv[1:]]
from labctl.__main__ import main
try:
    main()
finally:
    print("\\nloaded", *sys.modules, file=sys.stderr)
"""


@pytest.fixture
def recorded(tmp_path: Path, home: Path) -> None:
    """A lab whose machines are gone."""
    path = write(tmp_path)
    lab = Lab.create(specify(path, base="debian12", driver="nspawn"), path)
    lab.save_journal(Journal([StageRecord("machines", "digest", 0.0, 1.0, 1.0, 1, 1)]))


def loaded(*words: str, status: int = 0, **variables: str) -> set[str]:
    """The modules that a command has loaded when it ends, with the packages that they are in."""
    done = process.run([sys.executable, "-c", _RUN, *words], env={**os.environ, **variables}, cwd=ROOT, check=False)
    assert done.returncode == status, done.stderr
    return set(done.stderr.rpartition("\nloaded ")[2].split())


def completing(line: str) -> set[str]:
    """The same of a completion at the end of a command line."""
    position = str(len(line.split(" ")) - 1)
    return loaded(_LABCTL_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=position)


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_help_of_the_verbs_loads_none_of_them(words: list[str]) -> None:
    found = loaded(*words, status=0 if words else 2)
    assert found & {*WORK, *TOPOLOGIES, *RECORDS, *MODELS} == set()
    assert {name for name in found if name.startswith("labctl.commands.")} <= {
        f"labctl.commands.{name}" for name in ("complete", "terminal", "verbs")
    }


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("words", [["list"], ["status", "small"], ["list", "-o", "json"]])
def test_a_look_at_labs_loads_their_records_and_drivers(words: list[str]) -> None:
    assert loaded(*words) & {*WORK, *TOPOLOGIES, "typer.rich_utils"} == set()


def test_a_topology_is_checked_without_what_labs_need() -> None:
    assert loaded("validate", "topologies/zed-2node.yaml") & {*WORK, *RECORDS, "typer.rich_utils"} == set()


@pytest.mark.usefixtures("recorded")
def test_verbs_are_completed_without_their_modules() -> None:
    assert completing("labctl st") & {*WORK, *TOPOLOGIES, *RECORDS, *MODELS, *LISTING} == set()


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    "line",
    [
        "labctl status ",
        "labctl validate ",
        "labctl up ",
        "labctl ssh small ",
        "labctl snapshot restore small ",
        "labctl graph ",
    ],
)
def test_names_are_completed_without_what_the_verb_does(line: str) -> None:
    assert completing(line) & {*WORK, *TOPOLOGIES, "typer.rich_utils"} == set()


def test_every_verb_that_completes_names_is_read_without_what_it_does() -> None:
    modules = {place.partition(":")[0] for place in verbs.PLACES.values()}
    sources = {name: (ROOT / "labctl" / "commands" / f"{name}.py").read_text() for name in modules}
    naming = sorted(n for n, text in sources.items() if re.search(r"\b(Lab|Node|Topology)Name\b|autocompletion", text))
    assert {"access", "lifecycle", "snapshot"} < set(naming)
    code = f"import sys, importlib; [importlib.import_module('labctl.commands.' + name) for name in {naming}]"
    found = process.output([sys.executable, "-c", f"{code}; print(*sys.modules)"]).split()
    assert set(found) & {*WORK, *TOPOLOGIES} == set()


@pytest.mark.parametrize("name", verbs.PLACES)
def test_the_help_of_a_verb_is_known_without_its_module(name: str) -> None:
    command = verbs.command(name)
    assert verbs.summary(name) == command.help
    assert command.name == name
