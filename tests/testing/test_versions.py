"""Versions that are not the release's are found, whatever the base; the suite of a lab asks its nodes for them."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import ROOT, specify, variants, whole

from labctl.components import Component
from labctl.errors import BrokenLabError
from labctl.releases import RELEASES, PackageSource
from labctl.services.base import Context
from labctl.testing import versions

PAIRS = [(a, b) for a, b in permutations(RELEASES.values(), 2)]


@pytest.mark.parametrize("release", RELEASES.values(), ids=lambda r: r.name)
def test_a_release_includes_its_own_versions(release: Any) -> None:
    for source, known in release.versions.items():
        for project, version in known.items():
            assert release.includes(source, project, version)
            updated = release.includes(source, project, f"{version}.99")
            assert updated is (source is not PackageSource.PYPI)


@pytest.mark.parametrize(("release", "other"), PAIRS, ids=lambda r: r.name)
def test_no_version_of_another_release_is_taken_for_its_own(release: Any, other: Any) -> None:
    """Whichever package source either is from; also where only one project is of the other release."""
    for source, known in release.versions.items():
        for versions_of_other in other.versions.values():
            for project in (known.keys() & versions_of_other) - {"gnocchi"}:  # it has releases of its own
                assert not release.includes(source, project, versions_of_other[project]), project


def test_microversions_grow_with_the_releases() -> None:
    found = [tuple(map(int, release.nova_microversion.split("."))) for release in RELEASES.values()]
    assert found == sorted(found), "RELEASES is in the order of time"


@pytest.mark.parametrize(("path", "base"), variants(), ids=lambda value: getattr(value, "stem", value))
def test_every_project_with_daemons_is_asked_for_where_they_run(path: Path, base: str) -> None:
    ctx = Context.of(whole(path, base))
    asked = {project for node in ctx.lab.nodes.values() for project in versions.projects(ctx, node)}
    assert {"keystone", "glance", "nova", "neutron"} <= asked
    assert ("cinder" in asked) is ctx.lab.has(Component.CINDER_CONTROLLER)
    compute = ctx.lab.running(Component.NOVA_COMPUTE)[0]
    assert {"nova", "neutron"} <= set(versions.projects(ctx, compute))
    assert ("placement" in asked) is (ctx.release.name not in ("mitaka", "rocky"))


def test_what_is_of_another_release_is_named() -> None:
    ctx = Context.of(specify(ROOT / "topologies/zed-2node.yaml", base="debian12"))
    assert versions.foreign(ctx, {"nova": "26.2.3", "keystone": "22.0.0", "swift": "2.30.0"}) == []
    assert versions.foreign(ctx, {"nova": "25.2.2", "swift": "2.29.1", "heat": "none", "glance": "25.1.0"}) == [
        "nova 25.2.2 instead of Zed's 26.2.2",
        "swift 2.29.1 instead of Zed's 2.30.1",
        "heat none instead of Zed's 19.0.0",
    ]


def test_the_script_prints_a_line_for_each_name() -> None:
    """Also for the names of what was renamed, and what is not there."""
    words = [sys.executable, "-c", versions.SCRIPT, "no-such,pytest", "no-such", "pytest"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    assert printed == [pytest.__version__, "none", pytest.__version__]


def lab_that_answers(text: str, errors: str = "") -> Any:
    """A lab whose nodes print a text, whatever they are asked."""
    spec = specify(ROOT / "topologies/gazpacho-2node.yaml", base="debian13")

    class Answering:
        def __init__(self) -> None:
            self.commands: list[str] = []

        def __enter__(self) -> Answering:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self, command: str, *, timeout: float) -> Any:
            self.commands.append(command)
            return SimpleNamespace(stdout=text, stderr=errors)

    session = Answering()
    return SimpleNamespace(
        name="lab", spec=spec, context=Context.of(spec), connect=lambda node: session, commands=session.commands
    )


def test_a_node_is_asked_with_the_python_of_its_release() -> None:
    lab = lab_that_answers("33.0.2\n28.0.2\n28.0.0\n")
    assert versions.of_node(lab, "compute") == {"nova": "33.0.2", "neutron": "28.0.2", "cinder": "28.0.0"}
    (command,) = lab.commands
    assert command.startswith("/opt/openstack/gazpacho/bin/python -c ")
    assert command.endswith(" nova neutron cinder")


def test_a_node_without_that_python_is_an_error_with_its_words() -> None:
    with pytest.raises(BrokenLabError, match="compute of lab does not tell its versions: sh: not found"):
        versions.of_node(lab_that_answers("", "sh: not found\n"), "compute")
