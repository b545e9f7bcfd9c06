"""Rules about neutron's mechanism driver, and which one a lab gets."""

from __future__ import annotations

import pytest
import yaml
from full import Lab, node, said, the_one

from labctl import bases
from labctl.releases import RELEASES
from labctl.topology import mechanism
from labctl.topology.load import parse
from labctl.topology.model import Mechanism

AGENTS = ("neutron-dhcp", "neutron-metadata")


@pytest.fixture
def modern(lab: Lab) -> Lab:
    """The lab with a release that has OVN, and without the agents that OVN does not need."""
    lab |= {"release": "epoxy", "bases": ["debian13"]}
    node(lab)["runs"] = [component for component in node(lab)["runs"] if component not in AGENTS]
    return lab


def chosen(lab: Lab, *, kernel: bool = False) -> Mechanism:
    topology = parse(yaml.safe_dump(lab, sort_keys=False), "f")
    return mechanism.choose(topology, RELEASES[topology.release], topology.bases[0], kernel)


def test_every_release_has_a_mechanism_on_every_base() -> None:
    for release in RELEASES.values():
        for base in bases.of(release):
            assert mechanism.possible(release, base), (release.name, base)


@pytest.mark.parametrize(
    ("release", "base", "wanted", "possible"),
    [
        ("zed", "debian12", "ovn", "linuxbridge, openvswitch"),
        ("ussuri", "debian12", "ovn", "openvswitch, linuxbridge"),
        ("epoxy", "debian13", "linuxbridge", "ovn, openvswitch"),
    ],
)
def test_a_mechanism_that_the_release_has_not_is_refused(
    lab: Lab, release: str, base: str, wanted: str, possible: str
) -> None:
    lab |= {"release": release, "bases": [base], "options": {"mechanism": wanted}}
    refused = [line for line in said(lab) if line.startswith("options.mechanism")]
    assert refused == [f"options.mechanism: {release} on {base} has no {wanted}; possible: {possible}, auto"]


@pytest.mark.parametrize("agent", AGENTS)
def test_ovn_has_no_agents(modern: Lab, agent: str) -> None:
    modern["options"] = {"mechanism": "ovn"}
    assert said(modern) == []
    node(modern)["runs"].append(agent)
    assert the_one(modern).endswith(f"; remove {agent} from runs")


@pytest.mark.parametrize("wanted", ["auto", "ovn", "openvswitch"])
def test_tunnels_of_containers_have_a_network_of_their_own(modern: Lab, wanted: str) -> None:
    modern["options"] = {"mechanism": wanted}
    assert said(modern) == []
    del modern["networks"]["overlay"]
    for each in modern["nodes"].values():
        each["networks"].pop("overlay", None)
    assert "needs a network named overlay between the nodes that run neutron-l2: controller" in the_one(modern)
    modern["drivers"] = ["libvirt"]
    assert said(modern) == []


def test_one_node_needs_no_tunnel(modern: Lab) -> None:
    del modern["networks"]["overlay"], modern["nodes"]["compute"], node(modern)["networks"]["overlay"]
    node(modern)["runs"].append("nova-compute")
    assert said(modern) == []


def test_the_mechanism_follows_release_kernel_and_agents(lab: Lab) -> None:
    assert chosen(lab) is chosen(lab, kernel=True) is Mechanism.LINUXBRIDGE
    ussuri = {**lab, "release": "ussuri"}
    assert chosen(ussuri) is chosen(ussuri, kernel=True) is Mechanism.OPENVSWITCH
    epoxy = {**lab, "release": "epoxy", "bases": ["debian13"]}
    assert chosen(epoxy) is chosen(epoxy, kernel=True) is Mechanism.OPENVSWITCH


def test_a_lab_whose_cards_cannot_carry_open_vswitch_gets_linuxbridge_in_containers(lab: Lab) -> None:
    lab |= {"release": "ussuri"}
    del node(lab, "compute")["networks"]["provider"]
    assert chosen(lab) is Mechanism.LINUXBRIDGE
    assert chosen(lab, kernel=True) is Mechanism.OPENVSWITCH
    assert said(lab) == []


def test_a_lab_without_agents_gets_ovn(modern: Lab) -> None:
    assert chosen(modern) is chosen(modern, kernel=True) is Mechanism.OVN


def test_vlans_of_containers_need_the_provider_network_on_each_node(lab: Lab) -> None:
    lab |= {"release": "ussuri", "options": {"mechanism": "openvswitch"}}
    assert said(lab) == []
    del node(lab, "compute")["networks"]["provider"]
    assert the_one(lab) == (
        "nodes.compute.networks: openvswitch in containers carries networks over 'provider'; attach the node with "
        "provider: none"
    )
    lab["drivers"] = ["libvirt"]
    assert said(lab) == []
