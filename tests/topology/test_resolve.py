"""A topology and the choices of one ``up`` become a lab spec."""

from __future__ import annotations

import re
from copy import deepcopy
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from labctl.components import Component
from labctl.errors import LabError
from labctl.lab.clone import renamed
from labctl.topology.defaults import gateway_of, pool_of
from labctl.topology.join import joined_like
from labctl.topology.load import load
from labctl.topology.model import Disk, Mechanism, Network, NetworkRole, Topology, VirtType
from labctl.topology.resolve import resolve, with_overlay
from labctl.topology.spec import LabSpec

ZED = load(Path(__file__).parents[2] / "topologies" / "zed-2node.yaml")


def lab(topology: Topology = ZED, **choices: Any) -> LabSpec:
    given_choices: dict[str, Any] = {
        "base": "debian12",
        "driver": "nspawn",
        "mechanism": Mechanism.LINUXBRIDGE,
        "virt_type": VirtType.QEMU,
        "package_source": "debian",
    }
    return resolve(topology, **(given_choices | choices))


def test_choices_and_options_end_in_the_spec() -> None:
    spec = lab(name="mine")
    assert (spec.name, spec.topology, spec.release, spec.base) == ("mine", "zed-2node", "zed", "debian12")
    assert (spec.driver, spec.package_source) == ("nspawn", "debian")
    assert (spec.mechanism, spec.virt_type) == (Mechanism.LINUXBRIDGE, VirtType.QEMU)
    assert (spec.region, spec.workers, spec.threads) == ("RegionOne", 1, 4)


def test_a_lab_is_called_after_its_topology() -> None:
    assert lab().name == "zed-2node"


def test_the_spec_answers_where_things_are() -> None:
    spec = lab()
    assert spec.management.name == "management"
    assert spec.host_of(Component.KEYSTONE).name == "controller"
    assert spec.address(spec.nodes["compute"]) == IPv4Address("10.0.0.31")
    assert spec.address(spec.nodes["compute"], NetworkRole.OVERLAY) == IPv4Address("10.0.0.31")


def test_a_role_comes_from_the_name_unless_given() -> None:
    spec = lab()
    assert spec.networks["provider"].role is NetworkRole.PROVIDER
    renamed = ZED.model_copy(
        update={"networks": ZED.networks | {"lan": Network(cidr="10.9.0.0/24", role=NetworkRole.OVERLAY)}}
    )
    assert lab(renamed).networks["lan"].role is NetworkRole.OVERLAY


def test_a_network_without_role_is_refused() -> None:
    with pytest.raises(LabError, match="network lan has no role"):
        lab(ZED.model_copy(update={"networks": {"lan": ZED.networks["management"]}}))


def test_interfaces_follow_the_order_of_the_file() -> None:
    cards = lab().nodes["controller"].interfaces
    assert [(c.name, c.network) for c in cards] == [("eth0", "management"), ("eth1", "provider")]
    assert [str(c.address) for c in cards] == ["10.0.0.11", "None"]


def bonded() -> LabSpec:
    node = ZED.nodes["controller"].model_copy(update={"bonds": ("management",)})
    return lab(ZED.model_copy(update={"nodes": ZED.nodes | {"controller": node}}), driver="libvirt")


def test_a_bond_has_two_cards_and_the_address_of_the_first() -> None:
    bond, card = bonded().nodes["controller"].interfaces
    assert (bond.name, bond.network, str(bond.address)) == ("bond0", "management", "10.0.0.11")
    assert [member.name for member in bond.cards] == ["eth0", "eth1"]
    assert bond.mac == bond.members[0].mac != bond.members[1].mac
    assert (card.name, [each.mac for each in card.cards]) == ("eth2", [card.mac])
    (before, _) = lab().nodes["controller"].interfaces
    assert before.name == "eth0"


def test_a_copy_of_a_lab_or_a_node_with_bonds_has_cards_of_its_own() -> None:
    spec = bonded()
    known = {each.mac for node in spec.nodes.values() for card in node.interfaces for each in card.cards}
    (bond, _) = renamed(spec, "copy").nodes["controller"].interfaces
    assert bond.mac == bond.members[0].mac
    assert not known & {member.mac for member in bond.members}
    node = ZED.nodes["compute"].model_copy(update={"bonds": ("management",)})
    spec = lab(ZED.model_copy(update={"nodes": ZED.nodes | {"compute": node}}), driver="libvirt")
    known = {each.mac for node in spec.nodes.values() for card in node.interfaces for each in card.cards}
    (bond, _) = joined_like(spec, "compute2", "compute", {}).nodes["compute2"].interfaces
    assert bond.mac == bond.members[0].mac
    assert not known & {member.mac for member in bond.members}


def test_macs_are_the_same_every_time_and_differ_between_cards_and_labs() -> None:
    def macs(spec: LabSpec) -> list[str]:
        return [card.mac for node in spec.nodes.values() for card in node.interfaces]

    assert macs(lab()) == macs(lab())
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac) for mac in macs(lab()))
    assert len(set(macs(lab()) + macs(lab(name="other")))) == 8


def test_macs_of_a_large_lab_are_unique() -> None:
    # By the birthday bound 6000 cards of 24 bits collide almost surely (1 - e^-1.07 = 66 %).
    node = ZED.nodes["compute"]
    large = ZED.model_copy(update={"nodes": {f"n{i}": node for i in range(3000)}})
    macs = [card.mac for n in lab(large).nodes.values() for card in n.interfaces]
    assert len(set(macs)) == len(macs) == 6000


def test_networks_of_one_physical_network_use_the_cards_of_the_first() -> None:
    role = NetworkRole.PROVIDER
    more = {
        "services": Network(cidr="198.51.100.0/24", role=role, vlan=105, ipv6="2001:db8:0:5::/64"),
        "storage": Network(cidr="192.0.2.0/24", role=role, physical="physnet2", ipv6_gateway="2001:db8::2"),
    }
    jumbo = ZED.networks["provider"].model_copy(update={"mtu": 9000})
    spec = lab(ZED.model_copy(update={"networks": ZED.networks | {"provider": jumbo} | more}))
    assert [n.name for n in spec.providers] == ["provider", "services", "storage"]
    assert [n.wire for n in spec.providers] == ["", "provider", ""]
    assert [n.physical for n in spec.providers] == ["provider", "provider", "physnet2"]
    assert [n.mtu for n in spec.providers] == [9000, 9000, 1500]
    services, storage = spec.providers[1:]
    assert (str(services.ipv6_gateway), str(services.ipv6_router)) == ("2001:db8:0:5::1", "2001:db8:0:5::2")
    assert (storage.ipv6_gateway, storage.ipv6_router) == (None, None)
    second = services.model_copy(update={"ipv6_gateway": services.ipv6_router})
    assert str(second.ipv6_router) == "2001:db8:0:5::3"


def test_a_gateway_is_the_first_host_unless_given() -> None:
    assert gateway_of(Network.model_validate({"cidr": "10.1.0.0/16"})) == IPv4Address("10.1.0.1")
    assert gateway_of(Network.model_validate({"cidr": "10.1.0.0/16", "gateway": "10.1.0.9"})) == IPv4Address("10.1.0.9")


def test_only_provider_networks_have_a_pool() -> None:
    spec = lab()
    assert spec.networks["management"].pool is None
    assert str(spec.networks["provider"].pool.start) == "203.0.113.101"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("network", "first", "last"),
    [
        ({"cidr": "203.0.113.0/24"}, "203.0.113.128", "203.0.113.254"),
        ({"cidr": "203.0.113.0/24", "gateway": "203.0.113.254"}, "203.0.113.128", "203.0.113.253"),
        ({"cidr": "203.0.113.0/24", "gateway": "203.0.113.130"}, "203.0.113.131", "203.0.113.254"),
        ({"cidr": "203.0.113.0/30"}, "203.0.113.2", "203.0.113.2"),
        ({"cidr": "203.0.113.0/30", "gateway": "203.0.113.2"}, "203.0.113.1", "203.0.113.1"),
        ({"cidr": "203.0.113.0/24", "pool": "203.0.113.5-203.0.113.6"}, "203.0.113.5", "203.0.113.6"),
    ],
)
def test_a_pool_is_the_upper_half_unless_given(network: dict[str, Any], first: str, last: str) -> None:
    pool = pool_of(Network.model_validate(network))
    assert (str(pool.start), str(pool.end)) == (first, last)


@given(st.integers(min_value=8, max_value=30), st.data())
def test_a_default_pool_never_holds_the_gateway(prefix: int, data: st.DataObject) -> None:
    hosts = 2 ** (32 - prefix) - 2
    gateway = IPv4Address("10.0.0.0") + data.draw(st.integers(min_value=1, max_value=hosts))
    network = Network.model_validate({"cidr": f"10.0.0.0/{prefix}", "gateway": str(gateway)})
    pool = pool_of(network)
    assert network.cidr.network_address < pool.start <= pool.end < network.cidr.broadcast_address
    assert not pool.start <= gateway <= pool.end


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a_b", "a b", "lab-", "lab\n", "a" * 41])
def test_a_lab_name_follows_the_rule_of_names(name: str) -> None:
    with pytest.raises(LabError, match="is not a lab name"):
        lab(name=name)


def test_a_mechanism_is_decided_before() -> None:
    with pytest.raises(ValueError, match="choose a mechanism"):
        lab(mechanism=Mechanism.AUTO)


def test_the_spec_survives_being_stored() -> None:
    assert LabSpec.model_validate_json(lab().model_dump_json()) == lab()


def test_disks_sizes_and_secrets_are_kept() -> None:
    compute = ZED.nodes["compute"]
    disks = {"a": Disk.model_validate({"size": "1 GiB"}), "b": Disk.model_validate({"size": "2 GiB"})}
    nodes = {**ZED.nodes, "compute": compute.model_copy(update={"disks": disks})}
    changed = ZED.model_copy(update={"passwords": {"ADMIN_PASS": "given"}, "nodes": nodes})
    spec = lab(changed)
    assert [(d.name, d.size) for d in spec.nodes["compute"].disks] == [("a", 2**30), ("b", 2**31)]
    assert spec.passwords == {"ADMIN_PASS": "given"}
    assert spec.nodes["compute"].memory == 2**31


@pytest.mark.parametrize("role", ["nodes", "later"])
def test_a_record_of_a_node_that_nothing_reaches_is_refused(role: str) -> None:
    record = lab().model_dump()
    record[role] = {"lost": {**deepcopy(record["nodes"]["compute"]), "name": "lost"}}
    LabSpec.model_validate(record)
    record[role]["lost"]["interfaces"][0]["address"] = None
    with pytest.raises(ValidationError, match="lost has no address in the management network"):
        LabSpec.model_validate(record)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (("10.0.0.11", "10.0.0.31"), ["10.0.1.11", "10.0.1.31"]),
        (("10.0.0.11", "10.0.0.255"), ["10.0.1.11", "10.0.1.12"]),
        (("10.0.0.1", "10.0.0.31"), ["10.0.1.11", "10.0.1.12"]),
        (("10.0.0.11", "10.0.7.11"), ["10.0.1.11", "10.0.1.12"]),
    ],
)
def test_a_network_for_tunnels_has_addresses_that_tell_the_nodes_apart(
    given: tuple[str, str], wanted: list[str]
) -> None:
    spec = lab()
    nodes = {
        name: node.model_copy(
            update={
                "interfaces": tuple(
                    card.model_copy(update={"address": IPv4Address(address)}) if card.address else card
                    for card in node.interfaces
                )
            }
        )
        for (name, node), address in zip(spec.nodes.items(), given, strict=True)
    }
    made = with_overlay(spec.model_copy(update={"nodes": nodes}), nodes)
    assert [str(made.address(node, NetworkRole.OVERLAY)) for node in made.nodes.values()] == wanted


def test_a_network_for_tunnels_has_a_range_of_its_own_and_is_for_nodes_that_need_it() -> None:
    spec = lab()
    taken = {name: n.model_copy(update={"cidr": IPv4Network("10.0.0.0/15")}) for name, n in spec.networks.items()}
    with pytest.raises(LabError, match="no range of addresses left"):
        with_overlay(spec.model_copy(update={"networks": taken}), spec.nodes)
    made = with_overlay(spec, ["compute"])
    assert made.nodes["controller"] == spec.nodes["controller"]
    assert made.nodes["compute"].interfaces[:-1] == spec.nodes["compute"].interfaces
