"""The plan of a hop: the new release's plan, and what only an upgrade does, each in its place."""

from __future__ import annotations

import pytest
from support import ROOT, specify

from labctl.operations import openstack
from labctl.operations.networks import PortsBound
from labctl.operations.node import Assign, Command, flatten
from labctl.plan import hop as hops
from labctl.plan.planner import Plan, plan
from labctl.services.base import Context
from labctl.topology.model import Mechanism
from labctl.upgrade import chain
from labctl.upgrade.chain import Hop

HOPS = chain.plan(specify(ROOT / "topologies" / "train-2node.yaml"), "gazpacho", kernel=False)
NAMES = [hop.name for hop in HOPS]
EPOXY = specify(ROOT / "topologies" / "epoxy-2node.yaml")


def planned(hop: Hop) -> Plan:
    return hops.hop(Context.of(hop.before), Context.of(hop.after))


def made(number: int) -> Plan:
    return planned(HOPS[number])


@pytest.mark.parametrize("number", range(len(HOPS)), ids=NAMES)
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
    for release, projects in {
        "victoria": ["nova"],
        "wallaby": ["glance", "keystone", "neutron", "cinder", "placement"],
    }.items():
        (forget,) = (stage for stage in made(NAMES.index(release)).stages if stage.name == "forget")
        titles = [o.title for o in flatten(forget.nodes["controller"])]
        assert titles[1:] == [f"{project}'s policy is YAML" for project in projects]


def test_a_check_that_is_broken_itself_is_left_out() -> None:
    (checks,) = (stage for stage in made(0).stages if stage.name == "checks")
    assert "upgrade check: glance-status" not in [o.title for o in flatten(checks.nodes["controller"])]


def test_ussuri_wants_roles_that_nobody_deletes() -> None:
    (adapt,) = (stage for stage in made(0).stages if stage.name == "adapt")
    assert [o.title for o in adapt.api] == [f"role {name} is immutable" for name in ("admin", "member", "reader")]


def test_cinders_second_api_goes_with_xena() -> None:
    gone = {
        name: [o.type for stage in made(number).stages for o in stage.api if isinstance(o, openstack.CatalogGone)]
        for number, name in enumerate(NAMES)
    }
    assert {name for name, types in gone.items() if types} == {"xena"}
    assert gone["xena"] == ["volumev2"]


def titles(plan: Plan, stage: str, node: str = "controller") -> list[str]:
    (found,) = (s for s in plan.stages if s.name == stage)
    return [o.title for o in flatten(found.nodes[node])]


def test_ports_and_guests_change_their_mechanism_driver_while_nobody_serves() -> None:
    """Nova-compute resumes guests as it starts, with what it remembers of their ports."""
    plan = made(NAMES.index("epoxy"))
    stages = [stage.name for stage in plan.stages]
    assert stages.index("databases") < stages.index("bindings") < stages.index("services")
    assert stages.index("compute") < stages.index("loose") < stages.index("verify")
    assert "northbound" not in stages, "Open vSwitch has agents, which read neutron's database"
    assert titles(plan, "bindings") == [
        "ports are bound by openvswitch instead of linuxbridge",
        "guests get cards of Open vSwitch",
    ]
    later = {stage.name for stage in made(NAMES.index("gazpacho")).stages}
    assert not later & {"bindings", "northbound", "loose"}


def test_ovn_gets_all_that_neutron_has_and_needs_no_dhcp_ports() -> None:
    agents = EPOXY.model_copy(update={"mechanism": Mechanism.OPENVSWITCH, "userspace_datapath": True})
    (step,) = chain.plan(agents, mechanism="ovn", kernel=False)
    plan = planned(step)
    assert titles(plan, "northbound") == [
        "networks of projects have room for Geneve's header",
        "OVN has what neutron has",
    ]
    for node in ("controller", "compute"):
        assert "bridges of neutron's agent are gone" in titles(plan, "forget", node)
    assert "bridges of neutron's agent are gone" not in titles(made(NAMES.index("epoxy")), "forget")
    (bound,) = (o for stage in plan.stages for o in stage.api if isinstance(o, PortsBound))
    assert bound.gone == ("network:dhcp",)
    smaller = next(o for o in flatten(next(s for s in plan.stages if s.name == "northbound").nodes["controller"]))
    assert isinstance(smaller, Command)
    assert "LEAST(n.mtu, 1442)" in smaller.run


def test_rows_that_the_new_tables_would_refuse_are_mended_before_they_change() -> None:
    """Cinder's volumes and snapshots that were deleted in a release before Xena: Launchpad bug 2070475."""
    plan = made(NAMES.index("caracal"))
    mended = [title for title in titles(plan, "forget") if title.startswith("rows of cinder")]
    assert [title.rpartition(" ")[2] for title in mended] == ["volumes", "snapshots"]
    stages = [stage.name for stage in plan.stages]
    assert stages.index("forget") < stages.index("databases")


def test_another_base_brings_its_version_of_the_database() -> None:
    assert titles(made(NAMES.index("epoxy")), "forget")[1:] == ["MariaDB's own tables are those of its version"]
    assert len(titles(made(NAMES.index("epoxy")), "forget", "compute")) == 1
    assert len(titles(made(NAMES.index("gazpacho")), "forget")) == 1


def test_apis_that_eventlet_patches_have_no_native_threads() -> None:
    """Nova's of 2025.1 from PyPI answered nobody after two requests had met; 2026.1's is not patched."""
    threads = {
        name: {
            o.path.rpartition("/")[2]: dict(o.values)["threads"]
            for o in flatten(
                next(s for s in made(NAMES.index(name)).stages if s.name == "configure").nodes["controller"]
            )
            if isinstance(o, Assign) and o.path.endswith("-uwsgi.ini")
        }
        for name in ("epoxy", "gazpacho")
    }
    assert threads["epoxy"]["nova-api-uwsgi.ini"] == threads["epoxy"]["heat-api-uwsgi.ini"] == "1"
    assert threads["epoxy"]["neutron-api-uwsgi.ini"] == threads["gazpacho"]["nova-api-uwsgi.ini"] == "4"
