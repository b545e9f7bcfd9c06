"""Tables that an image has ready are those that a lab's own commands would make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT, specify

from labctl.operations.populate import Invocations
from labctl.plan.planner import present
from labctl.releases.model import PackageSource, Placement
from labctl.services.base import Context
from labctl.services.schema import schemas
from labctl.topology.spec import SourceSpec

#: Mitaka has documented installations alone, whose images have no tables ready.
TOPOLOGIES = sorted(path for path in (ROOT / "topologies").glob("*.yaml") if path.stem != "mitaka-3node")


def populated(ctx: Context) -> list[Invocations]:
    return [made for s in present(ctx) for _, made in s.populate(ctx) if isinstance(made, Invocations)]


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_each_database_that_is_filled_has_a_schema_made_by_the_same_commands(path: Path) -> None:
    ctx = Context.of(specify(path))
    known = schemas(ctx.release, ctx.base.source)
    for made in populated(ctx):
        if not made.filled:
            continue
        databases = made.filled.split()[4:]
        # what the lab says on the command line, and a schema in the file it names
        lab = [re.sub(r"--config-file \S+ ?", "", each.words) for each in made.each if each.fills]
        own = [s for s in known if set(s.databases) <= set(databases)]
        assert sorted(d for s in own for d in s.databases) == sorted(databases)
        assert {s.program for s in own} == {made.program}
        assert [c.removesuffix(" --local_cell") for s in own for c in s.commands] == lab


def test_no_tables_are_ready_where_a_distribution_installs() -> None:
    ctx = Context.of(specify(ROOT / "topologies/train-2node.yaml", base="centos7"))
    assert {made.filled for made in populated(ctx)} == {""}


def test_nova_fills_its_tables_itself_where_placement_belongs_to_it() -> None:
    ctx = Context.of(specify(ROOT / "topologies/rocky-2node.yaml"))
    assert ctx.release.placement is Placement.IN_NOVA
    (made,) = (made for made in populated(ctx) if made.program == "nova-manage")
    assert made.filled == ""
    assert not any(s.program == "nova-manage" for s in schemas(ctx.release, PackageSource.PYPI))


def test_a_project_s_own_tree_makes_its_own_tables() -> None:
    spec = specify(ROOT / "topologies/zed-2node.yaml")
    tree = SourceSpec(project="nova", layer="source-nova-1", version="1.0", origin="/tree", schema_digest="1")
    ctx = Context.of(spec.model_copy(update={"sources": {"nova": tree}}))
    filled = {made.program: bool(made.filled) for made in populated(ctx)}
    assert not filled.pop("nova-manage")
    assert all(filled.values())
