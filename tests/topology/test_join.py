"""Nodes that join a lab later, and those that leave it: what the spec becomes, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from support import ROOT, specify, write

from labctl.errors import LabError
from labctl.topology.join import joined, joined_like, kept, left
from labctl.topology.model import Join
from labctl.topology.spec import LabSpec, NodeSpec

LATER = """
name: growing
release: zed
bases: [debian12]
drivers: [nspawn]
networks:
  management: {cidr: 10.0.0.0/28}
  overlay: {cidr: 10.0.1.0/28}
nodes:
  first:
    networks: {management: 10.0.0.2, overlay: 10.0.1.2}
    runs: [mariadb]
  second:
    networks: {management: 10.0.0.12, overlay: 10.0.1.3}
    runs: [etcd]
    join: later
  third:
    networks: {management: 10.0.0.14, overlay: none}
    runs: []
    join: later
"""


@pytest.fixture
def spec(tmp_path: Path) -> LabSpec:
    return specify(write(tmp_path, LATER))


def cards(node: NodeSpec) -> dict[str, str]:
    return {card.network: str(card.address) for card in node.interfaces}


def test_a_node_for_later_is_known_and_not_made(spec: LabSpec) -> None:
    assert list(spec.nodes) == ["first"]
    assert list(spec.later) == ["second", "third"]
    assert spec.nodes["first"].join is Join.START
    assert LabSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_node_joins_behind_the_others(spec: LabSpec) -> None:
    both = joined(joined(spec, "third"), "second")
    assert list(both.nodes) == ["first", "third", "second"]
    assert both.nodes["second"] == spec.later["second"]
    assert both.later == {}


def test_a_node_that_cannot_join_is_refused(spec: LabSpec) -> None:
    with pytest.raises(LabError, match="has no node 'secnd' that joins later; it has: second, third") as raised:
        joined(spec, "secnd")
    assert raised.value.hint == "labctl node list growing; labctl node add growing secnd --like NODE copies one of them"
    with pytest.raises(LabError, match="growing already has the node 'first'"):
        joined(spec, "first")


def test_a_node_that_left_can_join_again(spec: LabSpec) -> None:
    assert left(joined(spec, "second"), "second") == spec.model_copy(
        update={"later": {name: spec.later[name] for name in ("third", "second")}}
    )


def test_a_node_of_the_start_does_not_leave(spec: LabSpec) -> None:
    with pytest.raises(LabError, match=r"'first' is part of growing from the start;.* can be removed: third") as raised:
        left(joined(spec, "third"), "first")
    assert raised.value.hint == "labctl down growing removes the whole lab"
    with pytest.raises(LabError, match="growing has no node 'second'; it has first"):
        left(spec, "second")


# --- copies ----------------------------------------------------------------------------------------


def test_a_copy_has_the_shape_of_its_pattern_and_the_next_free_addresses(spec: LabSpec) -> None:
    lab = joined_like(spec, "fourth", "third", {})
    fourth = lab.nodes["fourth"]
    assert fourth.like == "third"
    assert fourth.join is Join.LATER
    assert (fourth.memory, fourth.disks, fourth.runs) == (spec.later["third"].memory, (), ())
    # 10.0.0.14 is the last host of the network, .1 its gateway and .2 the first node
    assert cards(fourth) == {"management": "10.0.0.3", "overlay": "None"}
    assert cards(joined_like(lab, "fifth", "third", {}).nodes["fifth"])["management"] == "10.0.0.4"


def test_addresses_of_nodes_that_have_not_joined_are_not_free(spec: LabSpec) -> None:
    with pytest.raises(LabError, match=r"10\.0\.0\.12 is already the address of node 'second'"):
        joined_like(spec, "fourth", "third", {"management": IPv4Address("10.0.0.12")})


def test_every_card_of_a_lab_has_a_mac_of_its_own(spec: LabSpec) -> None:
    lab = joined_like(joined_like(spec, "a", "third", {}), "b", "third", {})
    macs = [card.mac for node in (*lab.nodes.values(), *lab.later.values()) for card in node.interfaces]
    assert len(macs) == len(set(macs)) == 10


def test_an_address_may_be_given(spec: LabSpec) -> None:
    lab = joined_like(spec, "fourth", "third", {"management": IPv4Address("10.0.0.7")})
    assert cards(lab.nodes["fourth"]) == {"management": "10.0.0.7", "overlay": "None"}


@pytest.mark.parametrize(
    ("network", "address", "why"),
    [
        ("management", "10.0.0.2", "10.0.0.2 is already the address of node 'first'"),
        ("management", "10.0.0.1", "10.0.0.1 is already the gateway of 'management'"),
        ("management", "10.0.0.15", "10.0.0.15 is the broadcast address of 10.0.0.0/28"),
        ("management", "10.0.7.7", "10.0.7.7 is outside 10.0.0.0/28"),
        ("provider", "10.0.0.7", "'third' has no interface in 'provider', only in management, overlay"),
    ],
)
def test_an_address_that_cannot_be_is_refused(network: str, address: str, why: str, spec: LabSpec) -> None:
    with pytest.raises(LabError) as raised:
        joined_like(spec, "fourth", "third", {network: IPv4Address(address)})
    assert why in raised.value.message


def test_a_full_network_is_refused(spec: LabSpec) -> None:
    for number in range(3, 14):
        if number != 12:
            spec = joined_like(spec, f"n{number}", "third", {})
    with pytest.raises(LabError, match="the network 'management' has no free address"):
        joined_like(spec, "more", "third", {})


def test_a_bridged_card_has_no_address() -> None:
    zed = specify(ROOT / "topologies" / "zed-2node.yaml")
    with pytest.raises(LabError, match="neutron bridges the interface in 'provider', so it has no address"):
        joined_like(zed, "compute2", "compute", {"provider": IPv4Address("203.0.113.7")})
    assert cards(joined_like(zed, "compute2", "compute", {}).nodes["compute2"]) == {
        "management": "10.0.0.32",
        "provider": "None",
    }


@pytest.mark.parametrize("name", ["", "Compute", "2nd", "a_b", "x" * 31, "localhost", "node-", "../x"])
def test_a_copy_has_a_name_that_a_machine_can_have(name: str, spec: LabSpec) -> None:
    with pytest.raises(LabError, match="is not a node name"):
        joined_like(spec, name, "third", {})


def test_a_copy_has_a_name_of_its_own(spec: LabSpec) -> None:
    with pytest.raises(LabError, match="growing already has the node 'first'"):
        joined_like(spec, "first", "third", {})
    with pytest.raises(LabError, match="the topology already defines the node 'second'"):
        joined_like(spec, "second", "third", {})
    with pytest.raises(LabError, match="growing has no node 'thrid'; it has first, second, third"):
        joined_like(spec, "fourth", "thrid", {})


@pytest.mark.parametrize(
    ("like", "why"),
    [
        ("controller", "mariadb cannot join a running lab: the catalog and other nodes are set up with it"),
        ("object1", "swift-storage cannot join a running lab: swift's rings are built once"),
        ("etcd", "etcd cannot join a running lab: a lab has only one"),
    ],
)
def test_only_what_a_lab_can_have_often_is_copied(like: str, why: str, spec: LabSpec, tmp_path: Path) -> None:
    lab = spec if like == "etcd" else specify(ROOT / "topologies" / "zed-6node.yaml")
    like = {"etcd": "second", "object1": _storage(lab)}.get(like, like)
    with pytest.raises(LabError) as raised:
        joined_like(lab, "more", like, {})
    assert f"cannot copy '{like}': {why}" in raised.value.message


def _storage(lab: LabSpec) -> str:
    return next((n.name for n in lab.nodes.values() if n.runs == ("swift-storage",)), "")


def test_a_copy_that_left_is_forgotten(spec: LabSpec) -> None:
    assert left(joined_like(spec, "fourth", "third", {}), "fourth") == spec


# --- the topology read anew ------------------------------------------------------------------------


def test_what_has_joined_stays_when_the_topology_is_read_anew(spec: LabSpec) -> None:
    running = joined_like(joined(spec, "third"), "fourth", "third", {})
    assert kept(spec, running) == running
    assert kept(spec, spec) == spec


def test_a_joined_node_is_as_the_topology_now_has_it(spec: LabSpec, tmp_path: Path) -> None:
    running = joined(spec, "second")
    changed = specify(write(tmp_path, LATER.replace("[etcd]", "[etcd, memcached]")))
    assert kept(changed, running).nodes["second"].runs == ("etcd", "memcached")
    assert list(kept(changed, running).later) == ["third"]
    gone = specify(write(tmp_path, LATER[: LATER.index("  second:")]))
    assert kept(gone, running).nodes["second"] == spec.later["second"]
    head, _, tail = LATER.partition("    join: later\n")
    start = specify(write(tmp_path, head + tail))
    assert kept(start, running).nodes["second"].join is Join.START
