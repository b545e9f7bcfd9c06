"""The hops of an upgrade follow from the releases' facts, and what cannot go is refused before anything is done."""

from __future__ import annotations

import pytest
from support import ROOT, specify

from labctl import releases
from labctl.components import Component
from labctl.errors import LabError
from labctl.releases.model import PackageSource
from labctl.topology.check import with_release
from labctl.topology.load import load
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.spec import LabSpec
from labctl.upgrade import chain
from labctl.upgrade.chain import Hop

TRAIN = specify(ROOT / "topologies" / "train-2node.yaml")
EPOXY = specify(ROOT / "topologies" / "epoxy-2node.yaml")


def plan(spec: LabSpec, target: str = "", until: str = "", mechanism: str = "") -> tuple[Hop, ...]:
    """Of containers, whose kernel has no datapath for Open vSwitch."""
    return chain.plan(spec, target, until, mechanism, kernel=False)


def test_each_release_is_passed_once_in_its_order() -> None:
    hops = plan(TRAIN, "2024.1")
    assert [hop.after.release for hop in hops] == [
        *("ussuri", "victoria", "wallaby", "xena", "yoga", "zed", "antelope", "caracal")
    ]
    assert [hop.before.release for hop in hops] == ["train", *(hop.after.release for hop in hops[:-1])]
    assert hops[0].snapshot == "before-ussuri"
    assert {(hop.after.base, hop.after.package_source) for hop in hops} == {("debian12", "pypi")}
    assert all(hop.after.nodes == TRAIN.nodes for hop in hops)


def test_a_release_that_has_no_linuxbridge_brings_its_base_and_a_network_for_tunnels() -> None:
    *_, caracal, epoxy, gazpacho = plan(TRAIN, "2026.1")
    assert (caracal.title, epoxy.name, gazpacho.title) == ("Antelope to Caracal", "epoxy", "Epoxy to Gazpacho")
    assert epoxy.title == "Caracal to Epoxy, Debian 12 to Debian 13, linuxbridge to openvswitch"
    after = epoxy.after
    assert (after.base, after.mechanism, after.userspace_datapath) == ("debian13", Mechanism.OPENVSWITCH, True)
    assert {name: node.runs for name, node in after.nodes.items()} == {n: v.runs for n, v in TRAIN.nodes.items()}
    new = after.network(NetworkRole.OVERLAY)
    assert new is not None
    assert not any(new.cidr.overlaps(network.cidr) for network in TRAIN.networks.values())
    assert [str(after.address(node, NetworkRole.OVERLAY)) for node in after.nodes.values()] == [
        "10.0.1.11",
        "10.0.1.31",
    ]
    assert [node.interfaces[-1].name for node in after.nodes.values()] == ["eth2", "eth2"]
    macs = [card.mac for node in after.nodes.values() for card in node.interfaces]
    assert len(set(macs)) == len(macs)
    assert gazpacho.after.networks == after.networks


def test_a_datapath_of_the_kernel_needs_no_card_of_its_own() -> None:
    *_, epoxy, _ = chain.plan(TRAIN, "2026.1", kernel=True)
    assert not epoxy.after.userspace_datapath
    assert epoxy.after.networks == TRAIN.networks


def test_ovn_is_taken_where_the_driver_must_change_or_as_a_step_of_its_own() -> None:
    *_, epoxy, gazpacho = plan(TRAIN, "2026.1", mechanism="ovn")
    assert epoxy.title.endswith("linuxbridge to ovn")
    assert gazpacho.after.mechanism is Mechanism.OVN
    for node in epoxy.after.nodes.values():
        assert not node.has(Component.NEUTRON_DHCP, Component.NEUTRON_METADATA)
    on_agents = EPOXY.model_copy(update={"mechanism": Mechanism.OPENVSWITCH, "userspace_datapath": True})
    (step,) = plan(on_agents, mechanism="ovn")
    assert (step.name, step.snapshot, step.title) == ("ovn", "before-ovn", "openvswitch to ovn")
    assert step.after.package_source == "debian", "nothing but the mechanism driver changes"
    assert plan(step.after, mechanism="ovn") == ()


@pytest.mark.parametrize(
    ("spec", "mechanism", "said"),
    [
        (TRAIN, "openvswitch", "which Open vSwitch of Debian 12 does not carry in containers"),
        (TRAIN, "ovn", "Train has no ovn"),
        (EPOXY, "openvswitch", "labctl brings no lab from ovn to openvswitch"),
        (EPOXY, "ovm", "did you mean 'ovn'"),
    ],
)
def test_an_impossible_mechanism_driver_is_refused_with_the_reason(spec: LabSpec, mechanism: str, said: str) -> None:
    with pytest.raises(LabError) as refused:
        plan(spec, mechanism=mechanism)
    assert said in f"{refused.value.message} {refused.value.hint}", refused.value.message


def test_a_lab_that_is_there_has_no_hops() -> None:
    assert plan(TRAIN, "train") == ()


def test_until_stops_on_the_way() -> None:
    assert [hop.after.release for hop in plan(TRAIN, "caracal", "victoria")] == ["ussuri", "victoria"]
    with pytest.raises(LabError, match="Caracal is not on the way"):
        plan(TRAIN, "victoria", "caracal")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("ussury", "did you mean 'ussuri'"),
        ("mitaka", "labctl knows no way from Train to Mitaka"),
    ],
)
def test_an_impossible_target_is_refused_with_what_would_work(target: str, said: str) -> None:
    with pytest.raises(LabError) as refused:
        plan(TRAIN, target)
    assert said in f"{refused.value.message} {refused.value.hint}", refused.value.message


def test_an_upgrade_only_goes_forward() -> None:
    ussuri = TRAIN.model_copy(update={"release": "ussuri"})
    with pytest.raises(LabError, match="Train is older than Ussuri"):
        plan(ussuri, "train")


def test_distribution_packages_are_refused() -> None:
    zed = specify(ROOT / "topologies" / "zed-2node.yaml")
    with pytest.raises(LabError, match="its Zed comes from debian packages"):
        plan(zed, "antelope")


def test_virtual_machines_are_refused() -> None:
    machines = TRAIN.model_copy(update={"driver": "libvirt", "own_kernel": True})
    with pytest.raises(LabError, match="train-2node has virtual machines"):
        plan(machines, "ussuri")


def test_services_that_the_next_release_lacks_are_named() -> None:
    ussuri = specify(ROOT / "topologies" / "ussuri-6node.yaml")
    with pytest.raises(LabError) as refused:
        plan(ussuri, "victoria")
    for service in ("gnocchi", "ceilometer", "aodh"):
        assert f"labctl has no {service} for Victoria" in refused.value.message


def test_the_facts_of_upgrades_fit_together() -> None:
    known = releases.EVERY
    followed = [name for r in known.values() if r.upgrade for name in r.upgrade.after]
    assert set(followed) <= set(known)
    assert len(known) == len(releases.RELEASES) + len(releases.PASSED)
    for release in known.values():
        if release.upgrade:
            assert release.has("nova", PackageSource.PYPI), release.name
            assert release.pypi is not None, release.name
    for name in releases.PASSED:  # a release that is only passed leads somewhere
        assert name in followed, name


def test_a_release_is_known_by_its_number_also_where_it_is_only_passed() -> None:
    assert plan(TRAIN, "2023.1")[-1].after.release == "antelope"


@pytest.mark.parametrize("word", ["victoria", "2023.1"])
def test_a_topology_that_names_a_release_that_is_only_passed_is_told_so(word: str) -> None:
    with pytest.raises(LabError, match="is a release that only upgrades pass"):
        with_release(load(ROOT / "topologies" / "train-2node.yaml"), word)
