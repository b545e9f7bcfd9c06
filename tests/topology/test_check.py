"""Rules about releases, bases, drivers and components: for each, a lab that breaks it and one that does not."""

from __future__ import annotations

import pytest
from full import Lab, measured, node, said, the_one

from labctl import bases
from labctl.bases import runs_on
from labctl.components import COMPONENTS, Component
from labctl.releases import RELEASES
from labctl.topology.check import check
from labctl.topology.model import Topology
from labctl.topology.problems import Positions


def test_a_lab_of_every_component_has_no_problem(lab: Lab) -> None:
    assert said(measured(lab)) == []
    assert {c for n in lab["nodes"].values() for c in n["runs"]} == set(Component)


def test_check_works_without_positions(lab: Lab) -> None:
    lab["release"] = "zedd"
    (problem,) = check(Topology.model_validate(lab), Positions("memory"))
    assert str(problem).startswith("memory:1:1: release: unknown release 'zedd'; did you mean 'zed'?")


# release × base × driver


def test_unknown_words_get_a_guess(lab: Lab) -> None:
    lab |= {"release": "trian", "bases": ["debain12"], "drivers": ["libvrit"]}
    release, base, driver = said(lab)
    assert release.startswith("release: unknown release 'trian'; did you mean 'train'?")
    assert base.startswith("bases[0]: unknown base 'debain12'; did you mean 'debian12'?")
    assert driver.startswith("drivers[0]: unknown driver 'libvrit'; did you mean 'libvirt'?")


def test_a_base_or_driver_is_named_once(lab: Lab) -> None:
    lab |= {"bases": ["debian12", "debian12"], "drivers": ["nspawn", "nspawn"]}
    assert said(lab) == ["bases[1]: debian12 is named twice", "drivers[1]: nspawn is named twice"]


@pytest.mark.parametrize("release", tuple(RELEASES))
@pytest.mark.parametrize("base", tuple(bases.TITLES))
def test_a_release_is_installed_only_on_its_bases(lab: Lab, release: str, base: str) -> None:
    lab |= {"release": release, "bases": [base], "drivers": ["libvirt"]}
    if release == "mitaka":
        node(lab)["runs"].remove("placement")
    if base in bases.of(RELEASES[release]):
        assert said(lab) == []
    else:
        assert f"{release} cannot be installed on {base}; possible: {bases.of(RELEASES[release])[0]}" in the_one(lab)


def test_nspawn_cannot_run_centos(lab: Lab) -> None:
    lab |= {"release": "train", "bases": ["centos7"], "drivers": ["nspawn", "libvirt"]}
    assert the_one(lab).startswith("drivers[0]: nspawn cannot run centos7")
    for driver in ("libvirt", "vagrant"):
        assert runs_on("centos7", driver)
        assert said(lab | {"drivers": [driver]}) == []


def test_the_default_drivers_are_checked_too(lab: Lab) -> None:
    lab |= {"release": "train", "bases": ["centos7"]}
    del lab["drivers"]
    assert "nspawn cannot run centos7" in the_one(lab)


def test_each_driver_may_have_its_own_base(lab: Lab) -> None:
    lab |= {"release": "train", "bases": ["centos7", "debian12"], "drivers": ["nspawn", "libvirt"]}
    assert said(lab) == []
    assert the_one(lab | {"drivers": ["nspawn"]}).startswith("bases[0]: none of the drivers (nspawn) can run")


# components


@pytest.mark.parametrize("component", [c for c, rules in COMPONENTS.items() if rules.once])
def test_a_lab_has_one_of_a_component(lab: Lab, component: str) -> None:
    node(measured(lab), "compute")["runs"].append(str(component))
    assert the_one(lab) == f"nodes.compute.runs[3]: {component} already runs on node 'controller'; a lab has only one"


def test_a_component_is_named_once_a_node(lab: Lab) -> None:
    node(lab, "compute")["runs"].append("neutron-l2")
    assert the_one(lab) == "nodes.compute.runs[2]: neutron-l2 is named twice on this node"


@pytest.mark.parametrize(
    ("component", "needed"), [(c, n) for c, rules in COMPONENTS.items() for n in rules.needs], ids=lambda c: str(c)
)
def test_what_a_component_needs_runs_somewhere(lab: Lab, component: str, needed: str) -> None:
    for each in measured(lab)["nodes"].values():
        each["runs"] = [c for c in each["runs"] if c != needed]
    matching = [line for line in said(lab) if f": {component} needs " in line]
    assert len(matching) == 1
    assert needed in matching[0]


def test_missing_components_are_named_together(lab: Lab) -> None:
    node(lab)["runs"] = ["keystone"]
    lab["nodes"] = {"controller": node(lab)}
    assert the_one(lab).endswith("keystone needs mariadb and memcached, which no node of the lab runs")


@pytest.mark.parametrize(
    ("name", "component"),
    [("compute", "nova-compute"), ("controller", "neutron-l3"), ("controller", "neutron-dhcp")],
)
def test_the_layer_2_agent_runs_beside_what_has_ports(lab: Lab, name: str, component: str) -> None:
    node(lab, name)["runs"].remove("neutron-l2")
    assert any(f"{component} needs neutron-l2 on the same node" in line for line in said(lab))


def test_a_lab_without_compute_nodes_is_fine(lab: Lab) -> None:
    del lab["nodes"]["compute"]
    assert said(lab) == []


def test_mitaka_has_no_placement(lab: Lab) -> None:
    lab |= {"release": "mitaka", "bases": ["centos7"], "drivers": ["libvirt"]}
    assert the_one(lab).startswith("nodes.controller.runs[5]: mitaka has no placement service")
    node(lab)["runs"].remove("placement")
    assert said(lab) == []


def test_rocky_needs_its_placement_placed(lab: Lab) -> None:
    lab |= {"release": "rocky", "bases": ["debian12"]}
    assert said(lab) == []
    node(lab)["runs"].remove("placement")
    assert "nova-controller needs placement" in the_one(lab)


# telemetry


def test_every_guest_of_a_lab_with_telemetry_is_measured(lab: Lab) -> None:
    node(measured(lab), "compute")["runs"].remove("ceilometer-compute")
    assert the_one(lab) == (
        "nodes.compute.runs[0]: the lab runs ceilometer, but nobody measures the guests of this node; "
        "add ceilometer-compute to runs"
    )


def test_an_agent_measures_the_guests_of_its_own_node(lab: Lab) -> None:
    node(measured(lab), "storage")["runs"].append("ceilometer-compute")
    assert the_one(lab).endswith("ceilometer-compute needs nova-compute on the same node; add it to runs")


@pytest.mark.parametrize("release", tuple(RELEASES))
def test_telemetry_has_a_recipe_for_the_release(lab: Lab, release: str) -> None:
    base, source = next(iter(RELEASES[release].bases.items()))
    lab |= {"release": release, "bases": [base], "drivers": ["libvirt"]}
    if release == "mitaka":
        node(lab)["runs"].remove("placement")
    refused = [line for line in said(measured(lab)) if "labctl has no recipe for" in line]
    if RELEASES[release].has("gnocchi", source):
        assert said(lab) == []
    else:
        assert [line.split("recipe for ")[1].split(" of ")[0] for line in refused] == [
            *("gnocchi", "ceilometer", "aodh", "ceilometer-compute")
        ]
        assert refused[0].endswith(f"of {release}; telemetry is known for train, ussuri, zed, epoxy")


@pytest.mark.parametrize(("password", "carried"), [("plain-1.2_3~", True), ("a b", False), ("a%41", False)])
def test_swift_s_proxy_can_have_the_message_bus_password(lab: Lab, password: str, carried: bool) -> None:
    lab["passwords"] = {"RABBIT_PASS": password}
    assert said(lab) == []
    refused = said(measured(lab))
    assert [line.partition(":")[0] for line in refused] == ([] if carried else ["passwords.RABBIT_PASS"])


# nodes that join later


def test_a_compute_node_may_join_later(lab: Lab) -> None:
    node(lab, "compute")["join"] = "later"
    assert said(lab) == []


@pytest.mark.parametrize(
    "component", sorted(str(c) for c, rules in COMPONENTS.items() if rules.once and not rules.joins)
)
def test_what_a_lab_is_set_up_with_does_not_join_later(lab: Lab, component: str) -> None:
    node(measured(lab))["runs"].remove(component)
    lab["nodes"]["late"] = {
        "networks": {"management": "10.0.0.51", "overlay": "10.0.1.51", "provider": "none"},
        "runs": ["neutron-l2", component],
        "join": "later",
    }
    refused = f"nodes.late.runs[1]: {component} cannot join later: the catalog and other nodes are set up with it"
    assert f"{refused} from the start" in said(lab)


def test_a_storage_node_does_not_join_later(lab: Lab) -> None:
    lab["nodes"]["late"] = {
        "networks": {"management": "10.0.0.51"},
        "disks": {"swift1": "2 GiB"},
        "runs": ["swift-storage"],
        "join": "later",
    }
    assert any(
        line.startswith("nodes.late.runs[0]: swift-storage cannot join later: swift's rings") for line in said(lab)
    )


def test_a_lab_works_before_the_later_nodes_join(lab: Lab) -> None:
    node(lab, "storage")["runs"].remove("swift-storage")
    node(lab)["runs"].remove("swift-proxy")
    node(lab, "storage")["join"] = "later"
    at = f"nodes.controller.runs[{node(lab)['runs'].index('cinder-controller')}]"
    assert the_one(lab) == f"{at}: cinder-controller needs cinder-volume, which no node of the lab runs from the start"


def test_a_node_that_joins_later_may_bring_what_it_needs_itself(lab: Lab) -> None:
    text = {"networks": {"management": "10.0.0.51"}, "runs": ["etcd", "memcached"], "join": "later"}
    small = {**lab, "nodes": {"first": {"networks": {"management": "10.0.0.11"}, "runs": []}, "late": text}}
    assert said(small) == []


def test_some_node_is_there_from_the_start(lab: Lab) -> None:
    late = {"networks": {"management": "10.0.0.51"}, "runs": ["etcd"], "join": "later"}
    assert said({**lab, "nodes": {"late": late}}) == [
        "nodes: every node joins later; at least one must be there from the start"
    ]


def test_when_a_node_joins_is_one_of_two_words(lab: Lab) -> None:
    node(lab, "compute")["join"] = "latr"
    assert said(lab) == ["nodes.compute.join: unknown word 'latr'; did you mean 'later'? known: start, later"]
