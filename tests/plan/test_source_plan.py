"""A project's own tree: on the nodes that run the project, and nothing else of the lab is another."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ROOT, specify

from labctl.components import Component as C
from labctl.host import process
from labctl.operations.node import Command, Unit
from labctl.operations.source import NoSource, SourceTree
from labctl.plan import source as changes
from labctl.plan.planner import Plan, plan
from labctl.secret import unwritten
from labctl.services import SERVICES
from labctl.services.base import Context, stamp
from labctl.topology.spec import LabSpec, SourceSpec

TOPOLOGIES = ("zed-2node", "train-2node", "gazpacho-6node")


@pytest.fixture(params=TOPOLOGIES)
def spec(request: pytest.FixtureRequest) -> LabSpec:
    return specify(ROOT / "topologies" / f"{request.param}.yaml", base=BASES[request.param])


BASES = {"zed-2node": "debian12", "train-2node": "debian12", "gazpacho-6node": "debian13"}


def having(spec: LabSpec, project: str, layer: str = "", schema: str = "") -> LabSpec:
    made = SourceSpec(
        project=project, layer=layer or f"source-{project}-1", version="1.0", origin="/tree", schema_digest=schema
    )
    return spec.model_copy(update={"sources": {**spec.sources, project: made}})


def changed(before: LabSpec, after: LabSpec, *projects: str) -> Plan:
    return changes.changed(Context.of(before), Context.of(after), dict.fromkeys(projects, "own"), projects)


def units(made: Plan) -> set[tuple[str, str, str]]:
    """(node, unit, stamp) of everything that a plan starts."""
    return {
        (node, operation.name, operation.stamp)
        for stage in made.stages
        for node in made.context.lab.nodes
        for operation in stage.on(node)
        if isinstance(operation, Unit)
    }


def digests(spec: LabSpec) -> dict[str, str]:
    return {stage.name: stage.digest(unwritten) for stage in plan(Context.of(spec)).stages}


@pytest.mark.parametrize("project", ["keystone", "nova", "neutron", "cinder"])
def test_only_the_project_s_own_units_are_started_again(spec: LabSpec, project: str) -> None:
    after = having(spec, project)
    before, now = units(plan(Context.of(spec))), units(plan(Context.of(after)))
    again = now - before
    assert {(node, unit) for node, unit, _ in again} == {(node, unit) for node, unit, _ in before - now}
    assert units(changed(spec, after, project)) - before == again, "the change starts exactly what the plan would"
    names = {unit for _, unit, _ in again}
    assert names
    assert all(project in name for name in names)
    assert digests(spec).keys() == digests(after).keys()
    same = {name for name, digest in digests(spec).items() if digest == digests(after)[name]}
    assert {"prepare", "infrastructure", "catalog", "configure", "fixtures"} <= same


def test_the_tree_is_on_every_node_that_runs_the_project(spec: LabSpec) -> None:
    after = having(spec, "neutron")
    for made in (plan(Context.of(after)), changed(spec, after, "neutron")):
        found = {
            node
            for stage in made.stages
            for node in after.nodes
            for operation in stage.on(node)
            if isinstance(operation, SourceTree)
        }
        wanted = (C.NEUTRON_SERVER, C.NEUTRON_L2, C.NEUTRON_L3, C.NEUTRON_DHCP, C.NEUTRON_METADATA)
        assert found == {node.name for node in after.running(*wanted)}


def test_going_back_takes_the_tree_away_and_another_edit_brings_only_the_new_one(spec: LabSpec) -> None:
    has = having(spec, "nova")
    back = changed(has, spec, "nova")
    gone = [o for node in spec.nodes for o in back.stages[0].on(node)]
    assert {type(o) for o in gone} == {NoSource}
    assert len(gone) == len(spec.running(C.NOVA_CONTROLLER, C.NOVA_COMPUTE))
    again = changed(has, having(spec, "nova", "source-nova-2"), "nova")
    assert {o.layer for node in spec.nodes for o in again.stages[0].on(node) if isinstance(o, SourceTree)} == {
        "source-nova-2"
    }
    assert units(again) - units(back)


@pytest.mark.parametrize("project", ["keystone", "nova", "placement"])
def test_tables_are_synchronised_again_where_other_modules_made_them(
    spec: LabSpec, project: str, tmp_path: Path
) -> None:
    def due(schema: str) -> Command:
        made = changed(spec, having(spec, project, schema=schema), project)
        (found,) = (
            o
            for node in spec.nodes
            for o in made.stages[0].on(node)
            if isinstance(o, Command) and o.title == f"tables of {project} are due again"
        )
        return found

    def runs(schema: str) -> bool:
        text = due(schema).shell().replace("/var/lib/labctl/stamps", str(tmp_path))
        return process.run(["sh", "-c", text], check=False).returncode == 10

    (service,) = (service for service in SERVICES if service.name == project)
    commands = [command for _, chain in service.populate(Context.of(spec)) for command in chain.commands]
    done = [tmp_path / Path(stamp(command.title)).name for command in commands]
    for path in done:
        path.touch()
    assert not runs("own")
    assert all(path.exists() for path in done)
    assert runs("other")
    assert not any(path.exists() for path in done)
    assert not runs("other")
    assert runs("own")


def test_several_at_once_are_one_change(spec: LabSpec) -> None:
    after = having(having(spec, "nova"), "glance")
    made = changed(spec, after, "nova", "glance")
    before = units(plan(Context.of(spec)))
    assert units(made) - before == units(plan(Context.of(after))) - before
    assert [stage.name for stage in made.stages] == [
        stage.name for stage in made.stages if stage.name in ("source", *digests(after))
    ]
