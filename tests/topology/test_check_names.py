"""Rules about names that may not be used twice: for each, a lab that breaks it and one that does not."""

from __future__ import annotations

import pytest
from full import Lab, said, the_one
from support import specify, variants

from labctl.operations.openstack import User
from labctl.plan.planner import plan
from labctl.services.base import Context


@pytest.mark.parametrize("name", ["localhost", "ip6-localhost", "ip6-loopback"])
def test_no_node_is_called_localhost(lab: Lab, name: str) -> None:
    lab["nodes"][name] = lab["nodes"].pop("storage")
    assert the_one(lab).startswith(f"nodes.{name}: every machine calls itself {name}")


def test_a_user_of_the_fixtures_is_none_of_openstacks(lab: Lab) -> None:
    specs = [specify(path, base=base) for path, base in variants()]
    calls = [call for spec in specs for stage in plan(Context.of(spec)).stages for call in stage.api]
    ours = {call.name for call in calls if isinstance(call, User)} - {spec.fixtures.user for spec in specs}
    assert {"nova", "heat_domain_admin"} <= ours
    for user in (*ours, "admin", "Admin", "NOVA"):
        lab["fixtures"] = {"user": user}
        assert the_one(lab) == f"fixtures.user: {user!r} is an account of OpenStack itself; choose another"
    for project in ("admin", "service", "Service"):
        lab["fixtures"] = {"project": project}
        assert the_one(lab) == f"fixtures.project: {project!r} is a project of OpenStack itself; choose another"


def test_names_that_differ_in_case_only_are_the_same(lab: Lab) -> None:
    lab["passwords"] = {"ADMIN_PASS": "one", "admin_pass": "other"}
    assert the_one(lab) == "passwords.admin_pass: 'admin_pass' is the same as 'ADMIN_PASS'"
    del lab["passwords"]
    lab["fixtures"] = {"flavors": {"m1.Nano": {"ram": 64}, "m1.nano": {"ram": 128}}}
    assert the_one(lab) == """fixtures.flavors["m1.nano"]: 'm1.nano' is the same as 'm1.Nano'"""


def test_the_guests_network_has_a_name_of_its_own(lab: Lab) -> None:
    lab["fixtures"] = {"internal_network": "provider"}
    assert the_one(lab).startswith("fixtures.internal_network: 'provider' is already the name of the external network")
    lab["fixtures"]["external_network"] = "public"
    assert said(lab) == []
