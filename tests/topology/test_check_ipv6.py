"""Rules about IPv6 prefixes: for each, a lab that breaks it and one that does not."""

from __future__ import annotations

import pytest
from full import Lab, said, the_one


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("2001:db8::/48", "is not a /64"),
        ("2001:db8::/65", "is not a /64"),
        ("fe80::/64", "link-local"),
        ("ff02::/64", "multicast"),
        ("::/64", "addresses of no network"),
        ("2001:db8::1/64", "did you mean 2001:db8::/64?"),
        ("10.0.0.0/24", "expected an IPv6 prefix like"),
        ("x", "expected an IPv6 prefix like"),
        (7, "expected an IPv6 prefix like"),
    ],
)
def test_a_prefix_is_one_of_machines(lab: Lab, prefix: object, why: str) -> None:
    lab["networks"]["provider"]["ipv6"] = prefix
    assert the_one(lab).startswith("networks.provider.ipv6: ")
    assert why in the_one(lab)
    lab["networks"]["provider"]["ipv6"] = "fd00:9::/64"
    lab["fixtures"] = {"internal_network": "inner", "internal_ipv6": prefix}
    assert the_one(lab).startswith("fixtures.internal_ipv6: ")
    assert why in the_one(lab)


def test_prefixes_do_not_overlap(lab: Lab) -> None:
    lab["networks"]["provider"]["ipv6"] = "2001:db8::/64"
    lab["fixtures"] = {"internal_network": "inner", "internal_ipv6": "2001:db8::/64"}
    assert the_one(lab) == (
        "fixtures.internal_ipv6: 2001:db8::/64 overlaps 2001:db8::/64 of networks.provider.ipv6; choose another"
    )
    lab["fixtures"]["internal_ipv6"] = "2001:db8:0:1::/64"
    assert said(lab) == []


@pytest.mark.parametrize("gateway", ["2001:db8:0:1::1", "2001:db8::", "10.0.0.1", "x"])
def test_a_gateway_is_a_host_of_its_prefix(lab: Lab, gateway: str) -> None:
    lab["networks"]["provider"] |= {"ipv6": "2001:db8::/64", "ipv6_gateway": "2001:db8::fe"}
    assert said(lab) == []
    lab["networks"]["provider"]["ipv6_gateway"] = gateway
    assert the_one(lab).startswith("networks.provider.ipv6_gateway: ")


def test_a_gateway_needs_a_prefix(lab: Lab) -> None:
    lab["networks"]["provider"]["ipv6_gateway"] = "2001:db8::1"
    assert "has no effect without an IPv6 prefix" in the_one(lab)


@pytest.mark.parametrize("field", [{"internal_ipv6": "2001:db8::/64"}, {"internal_mtu": 1400}])
def test_what_is_said_of_the_self_service_network_needs_one(lab: Lab, field: Lab) -> None:
    lab["fixtures"] = field
    assert "has no effect without a self-service network" in the_one(lab)


def test_guests_get_their_addresses_in_a_known_way(lab: Lab) -> None:
    lab["fixtures"] = {"internal_network": "inner", "internal_ipv6": "2001:db8::/64", "internal_ipv6_mode": "dhcp"}
    assert "unknown word 'dhcp'; known: slaac, dhcpv6-stateful, dhcpv6-stateless" in the_one(lab)
