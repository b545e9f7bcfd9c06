"""The plan of a hop: the new release's plan, and what only an upgrade does, each in its place."""

from __future__ import annotations

import pytest
from support import ROOT, specify

from labctl.operations import openstack
from labctl.operations.node import Command, flatten
from labctl.plan import hop as hops
from labctl.plan.planner import Plan, plan
from labctl.services.base import Context
from labctl.upgrade import chain

HOPS = chain.plan(specify(ROOT / "topologies" / "train-2node.yaml"), "caracal")


def made(number: int) -> Plan:
    return hops.hop(Context.of(HOPS[number].after))


@pytest.mark.parametrize("number", range(len(HOPS)), ids=[hop.after.release for hop in HOPS])
def test_a_hop_is_the_new_release_and_what_only_an_upgrade_does(number: int) -> None:
    stages = [stage.name for stage in made(number).stages]
    own = [stage.name for stage in plan(Context.of(HOPS[number].after)).stages]
    assert [name for name in stages if name in own] == own
    assert stages.index("infrastructure") < stages.index("forget") < stages.index("keystone")
    assert stages.index("services") < stages.index("checks") < stages.index("compute")
    assert stages[-1] == "migrations"


def test_every_project_is_checked_and_those_with_data_migrations_migrate() -> None:
    by_name = {stage.name: stage for stage in made(2).stages}
    checked = [o.title for o in flatten(by_name["checks"].nodes["controller"])]
    projects = ("keystone", "glance", "placement", "nova", "neutron", "cinder", "heat")
    assert checked == [f"upgrade check: {name}-status" for name in projects]
    migrated = flatten(by_name["migrations"].nodes["controller"])
    assert [o.title for o in migrated] == [
        f"online data migrations: {name}-manage" for name in ("placement", "nova", "cinder")
    ]


def test_what_is_done_once_for_a_release_is_due_again() -> None:
    (forget,) = (stage for stage in made(0).stages if stage.name == "forget")
    for node in ("controller", "compute"):
        (command,) = flatten(forget.nodes[node])
        assert isinstance(command, Command)
        assert "stamps/sync-*" in command.run


def test_policies_become_yaml_where_json_is_read_no_more() -> None:
    names = [hop.after.release for hop in HOPS]
    for release, projects in {
        "victoria": ["nova"],
        "wallaby": ["glance", "keystone", "neutron", "cinder", "placement"],
    }.items():
        (forget,) = (stage for stage in made(names.index(release)).stages if stage.name == "forget")
        titles = [o.title for o in flatten(forget.nodes["controller"])]
        assert titles[1:] == [f"{project}'s policy is YAML" for project in projects]


def test_a_check_that_is_broken_itself_is_left_out() -> None:
    (checks,) = (stage for stage in made(0).stages if stage.name == "checks")
    assert "upgrade check: glance-status" not in [o.title for o in flatten(checks.nodes["controller"])]


def test_ussuri_wants_roles_that_nobody_deletes() -> None:
    (adapt,) = (stage for stage in made(0).stages if stage.name == "adapt")
    assert [o.title for o in adapt.api] == [f"role {name} is immutable" for name in ("admin", "member", "reader")]


def test_cinders_second_api_goes_with_xena() -> None:
    names = [hop.after.release for hop in HOPS]
    gone = {
        name: [o.type for stage in made(number).stages for o in stage.api if isinstance(o, openstack.CatalogGone)]
        for number, name in enumerate(names)
    }
    assert {name for name, types in gone.items() if types} == {"xena"}
    assert gone["xena"] == ["volumev2"]
