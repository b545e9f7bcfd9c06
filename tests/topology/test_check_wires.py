"""Rules about provider networks on the same cards, and sizes of packets: labs that break them, and what they say."""

from __future__ import annotations

import pytest
from full import Lab, node, said, the_one


@pytest.fixture
def tagged(lab: Lab) -> Lab:
    """A lab with a second provider network on the cards of the first."""
    lab["options"] = {"mechanism": "openvswitch"}
    lab["networks"]["services"] = {"cidr": "198.51.100.0/24", "role": "provider", "vlan": 105}
    return lab


def test_provider_networks_share_cards_by_their_tags(tagged: Lab) -> None:
    assert said(tagged) == []
    del tagged["networks"]["services"]["vlan"]
    assert the_one(tagged) == (
        "networks.services: uses the cards of 'provider' (physical: provider), and neither has a VLAN tag; add vlan: "
        "100 to share them, or physical: services for cards of its own"
    )
    tagged["networks"]["services"]["physical"] = "services"
    assert the_one(tagged).startswith("nodes.controller.runs[9]: neutron-l3 routes to 'services'; attach the node")
    node(tagged)["networks"]["services"] = "none"
    assert said(tagged) == []


def test_a_tag_is_used_once_on_the_same_cards(tagged: Lab) -> None:
    tagged["networks"]["more"] = {"cidr": "192.0.2.0/24", "role": "provider", "vlan": 105}
    assert the_one(tagged) == "networks.more.vlan: 105 is already the tag of 'services' on the same cards"
    tagged["networks"]["more"]["physical"] = "other"
    assert "attach the node with more: none" in the_one(tagged)


def test_a_network_without_cards_of_its_own_has_none_on_a_node(tagged: Lab) -> None:
    node(tagged, "compute")["networks"]["services"] = "none"
    assert the_one(tagged) == (
        "nodes.compute.networks.services: 'services' has no cards of its own, it uses those of 'provider'; "
        "write provider: none"
    )


@pytest.mark.parametrize("vlan", [0, 4095, "105", 1.5, True])
def test_a_tag_is_a_vlan_id(tagged: Lab, vlan: object) -> None:
    tagged["networks"]["services"]["vlan"] = vlan
    assert the_one(tagged).startswith("networks.services.vlan: ")


@pytest.mark.parametrize("vlans", ["100-199", 100, "100", ["100-149", "150-199"], [100, "200 - 300"]])
def test_ranges_of_vlans(tagged: Lab, vlans: object) -> None:
    tagged["networks"]["provider"]["vlans"] = vlans
    assert said(tagged) == []


@pytest.mark.parametrize("vlans", ["199-100", "0-10", "100-4095", "a-b", True, {"first": 1}, ["100-199", "x"], "1-2-3"])
def test_what_is_no_range_of_vlans(tagged: Lab, vlans: object) -> None:
    tagged["networks"]["provider"]["vlans"] = vlans
    assert the_one(tagged).startswith("networks.provider.vlans")


def test_ranges_do_not_overlap_on_the_same_cards(tagged: Lab) -> None:
    tagged["networks"]["provider"]["vlans"] = ["100-199", "150-160"]
    assert the_one(tagged) == "networks.provider.vlans: 150-160 overlaps 100-199"
    tagged["networks"]["provider"]["vlans"] = "100-199"
    tagged["networks"]["services"]["vlans"] = 199
    assert the_one(tagged) == "networks.services.vlans: 199 overlaps 100-199 of 'provider'"


@pytest.mark.parametrize("field", [{"vlan": 5}, {"vlans": "1-9"}, {"physical": "x"}, {"ipv6": "2001:db8:0:1::/64"}])
def test_only_provider_networks_have_tags_and_prefixes(lab: Lab, field: Lab) -> None:
    lab["networks"]["overlay"] |= field
    (name,) = field
    assert the_one(lab).startswith(f"networks.overlay.{name}: has no effect in the overlay network")


def test_packets_of_a_network_pass_the_cards_that_it_uses(tagged: Lab) -> None:
    tagged["networks"]["services"]["mtu"] = 9000
    assert the_one(tagged) == (
        "networks.services.mtu: its packets pass the cards of 'provider', which carry 1500 bytes; use at most 1500"
    )
    tagged["networks"]["provider"]["mtu"] = 9000
    assert said(tagged) == []


@pytest.mark.parametrize("mtu", [0, 1279, 9217, "9000", "jumbo"])
def test_an_mtu_is_a_number_of_bytes_that_cards_carry(lab: Lab, mtu: object) -> None:
    lab["networks"]["overlay"]["mtu"] = mtu
    assert the_one(lab).startswith("networks.overlay.mtu: ")


@pytest.mark.parametrize(("mechanism", "around"), [("linuxbridge", 50), ("openvswitch", 50)])
def test_packets_of_guests_fit_into_their_tunnels(lab: Lab, mechanism: str, around: int) -> None:
    lab["drivers"] = ["libvirt"]
    lab["options"] = {"mechanism": mechanism}
    lab["fixtures"] = {"internal_network": "inner", "internal_mtu": 1500 - around}
    assert said(lab) == []
    lab["fixtures"]["internal_mtu"] = 1500
    assert the_one(lab) == (
        f"fixtures.internal_mtu: tunnels of {mechanism} carry at most {1500 - around} bytes: 'overlay' carries 1500, "
        f"and each packet gets {around} around it; set mtu: {1500 + around} on 'overlay'"
    )
    lab["networks"]["overlay"]["mtu"] = 1500 + around
    assert said(lab) == []


def test_tunnels_of_guests_with_ipv6_carry_its_smallest_packet(lab: Lab) -> None:
    lab["fixtures"] = {"internal_network": "inner", "internal_ipv6": "2001:db8::/64"}
    lab["networks"]["overlay"]["mtu"] = 1300
    assert "IPv6 needs packets of 1280 bytes, and tunnels of linuxbridge carry at most 1250" in the_one(lab)


def test_a_bond_is_of_a_network_of_the_node_and_made_in_machines(lab: Lab) -> None:
    lab["drivers"] = ["libvirt"]
    node(lab)["bonds"] = ["provider", "management"]
    assert said(lab) == []
    node(lab)["bonds"] = ["provider", "provider"]
    assert the_one(lab) == "nodes.controller.bonds[1]: 'provider' is named twice"
    node(lab, "storage")["bonds"] = ["provider"]
    node(lab)["bonds"] = []
    assert "nodes.storage.bonds[0]: 'storage' is not attached to a network 'provider'" in the_one(lab)
    node(lab, "storage")["bonds"] = ["management"]
    lab["drivers"] = ["nspawn", "libvirt"]
    assert the_one(lab) == "nodes.storage.bonds: nspawn cannot bond cards; possible drivers: libvirt"
