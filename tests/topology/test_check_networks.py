"""Rules about networks and addresses: for each, a lab that breaks it and one that does not."""

from __future__ import annotations

import pytest
from full import Lab, node, said, the_one


def test_a_network_has_a_role(lab: Lab) -> None:
    lab["networks"]["lan"] = {"cidr": "10.9.0.0/24"}
    assert the_one(lab).startswith("networks.lan: has no role")
    lab["networks"]["lan"]["role"] = "overlay"
    del lab["networks"]["overlay"]
    for name in ("controller", "compute"):
        del node(lab, name)["networks"]["overlay"]
        node(lab, name)["networks"]["lan"] = f"10.9.0.{11 if name == 'controller' else 31}"
    assert said(lab) == []


def test_a_lab_has_a_management_network(lab: Lab) -> None:
    del lab["networks"]["management"]
    for each in lab["nodes"].values():
        del each["networks"]["management"]
    assert the_one(lab).startswith("networks: there is no management network")


@pytest.mark.parametrize("role", ["management", "overlay"])
def test_a_lab_has_one_network_of_a_role(lab: Lab, role: str) -> None:
    lab["networks"]["more"] = {"cidr": "10.9.0.0/24", "role": role}
    assert the_one(lab) == f"networks.more: is a second {role} network besides '{role}'; a lab has only one"


def test_a_network_has_room(lab: Lab) -> None:
    lab["networks"]["overlay"]["cidr"] = "10.0.1.11"
    assert any("10.0.1.11/32 has no room" in line for line in said(lab))


def test_networks_do_not_overlap(lab: Lab) -> None:
    lab["networks"]["provider"] = {"cidr": "10.0.0.128/25"}
    assert "networks.provider.cidr: 10.0.0.128/25 overlaps network 'management'" in the_one(lab)


@pytest.mark.parametrize("count", [2, 40])
def test_each_network_that_overlaps_is_told_once(lab: Lab, count: int) -> None:
    lab["networks"] |= {f"n{i}": {"cidr": f"10.{i}.0.0/16", "role": "overlay"} for i in range(9, 9 + count)}
    lab["networks"] |= {"last": {"cidr": "10.0.0.0/8", "role": "overlay"}}
    told = [line for line in said(lab) if "overlaps network" in line]
    assert len(told) == count + 2
    assert all(line.startswith("networks.last.cidr: 10.0.0.0/8 overlaps network") for line in told)


@pytest.mark.parametrize(
    ("cidr", "why"),
    [
        ("0.0.0.0/24", "no network"),
        ("127.1.0.0/24", "every machine's own"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/24", "multicast"),
        ("250.0.0.0/24", "reserved"),
        ("64.0.0.0/2", "every machine's own"),
    ],
)
def test_a_network_is_one_of_machines(lab: Lab, cidr: str, why: str) -> None:
    lab["networks"]["provider"] = {"cidr": cidr}
    assert the_one(lab).startswith(f"networks.provider.cidr: {cidr} has ")
    assert why in the_one(lab)
    lab["networks"]["provider"] = {"cidr": "203.0.113.0/24", "dns": cidr.split("/")[0]}
    assert [line.split(":")[0] for line in said(lab)] == (["networks.provider.dns"] if cidr[0] != "6" else [])
    lab["networks"]["provider"] = {"cidr": "203.0.113.0/24"}
    lab["fixtures"] = {"internal_network": "inside", "internal_cidr": cidr}
    assert any(line.startswith("fixtures.internal_cidr: ") and why in line for line in said(lab))


@pytest.mark.parametrize("cidr", ["10.0.0.0/24", "203.0.113.128/25", "203.0.0.0/16", "172.16.1.1/32"])
def test_guests_have_a_network_of_their_own(lab: Lab, cidr: str) -> None:
    lab["fixtures"] = {"internal_cidr": cidr}
    assert said(lab) == []
    lab["fixtures"]["internal_network"] = "inside"
    assert the_one(lab).startswith(f"fixtures.internal_cidr: {cidr} ")
    lab["fixtures"]["internal_cidr"] = "172.16.1.0/24"
    assert said(lab) == []


@pytest.mark.parametrize(
    ("cidr", "whose"), [("10.0.0.0/14", "VirtualBox's NAT"), ("192.168.121.128/25", "vagrant-libvirt's management")]
)
def test_no_address_is_one_that_vagrants_provider_owns(lab: Lab, cidr: str, whose: str) -> None:
    lab["networks"] = {"management": {"cidr": cidr}}
    for each in lab["nodes"].values():
        each["networks"] = {}
    lab["drivers"] = ["libvirt"]
    assert not any("overlaps" in line for line in said(lab))
    lab["drivers"] = ["libvirt", "vagrant"]
    (problem,) = [line for line in said(lab) if "overlaps" in line]
    assert problem.startswith(f"networks.management.cidr: {cidr} overlaps ")
    assert whose in problem
    assert "remove vagrant from drivers" in problem


@pytest.mark.parametrize(
    ("gateway", "why"),
    [("10.9.0.1", "outside"), ("10.0.0.0", "network address"), ("10.0.0.255", "broadcast")],
)
def test_a_gateway_is_a_host_of_its_network(lab: Lab, gateway: str, why: str) -> None:
    lab["networks"]["management"]["gateway"] = gateway
    problem = the_one(lab)
    assert problem.startswith(f"networks.management.gateway: {gateway} is")
    assert why in problem


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("203.0.113.20-203.0.113.10", "is reversed; did you mean 203.0.113.10-203.0.113.20?"),
        ("203.0.113.20-203.0.114.10", "203.0.114.10 is outside"),
        ("203.0.113.20-203.0.113.255", "broadcast"),
        ("203.0.113.1-203.0.113.10", "contains the gateway 203.0.113.1"),
    ],
)
def test_a_pool_is_hosts_of_its_network_without_the_gateway(lab: Lab, pool: str, why: str) -> None:
    lab["networks"]["provider"]["pool"] = pool
    problem = the_one(lab)
    assert problem.startswith("networks.provider.pool: ")
    assert why in problem


@pytest.mark.parametrize(("field", "value"), [("pool", "10.0.0.50-10.0.0.60"), ("dns", "10.0.0.1")])
def test_provider_settings_elsewhere_are_refused(lab: Lab, field: str, value: str) -> None:
    lab["networks"]["management"][field] = value
    assert the_one(lab).startswith(f"networks.management.{field}: has no effect in the management network")


def test_a_node_attaches_to_networks_of_the_lab(lab: Lab) -> None:
    node(lab, "storage")["networks"]["overlya"] = "none"
    assert "nodes.storage.networks.overlya: unknown network 'overlya'; did you mean 'overlay'?" in the_one(lab)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.9.0.5", "is outside 10.0.0.0/24"),
        ("10.0.0.0", "is the network address"),
        ("10.0.0.255", "is the broadcast address"),
        ("10.0.0.1", "is the gateway of 'management'"),
        ("10.0.0.11", "is already the address of node 'controller'"),
    ],
)
def test_an_address_is_a_free_host_of_its_network(lab: Lab, address: str, why: str) -> None:
    node(lab, "compute")["networks"]["management"] = address
    problem = the_one(lab)
    assert problem.startswith(f"nodes.compute.networks.management: {address} ")
    assert why in problem


def test_the_default_gateway_is_taken_too(lab: Lab) -> None:
    node(lab, "compute")["networks"]["overlay"] = "10.0.1.1"
    assert "10.0.1.1 is the gateway of 'overlay'" in the_one(lab)


def test_a_node_has_a_management_address(lab: Lab) -> None:
    node(lab, "storage")["networks"] = {"overlay": "10.0.1.41"}
    assert "needs an address in the management network" in the_one(lab)
    node(lab, "storage")["networks"] = {"management": "none"}
    assert "needs an address in the management network" in the_one(lab)


def test_a_tunnel_end_has_an_overlay_address(lab: Lab) -> None:
    node(lab, "compute")["networks"]["overlay"] = "none"
    assert "runs neutron-l2 and needs an address in the overlay network" in the_one(lab)
    del lab["networks"]["overlay"]
    for name in ("controller", "compute"):
        del node(lab, name)["networks"]["overlay"]
    assert said(lab) == []


def test_a_provider_network_is_attached_without_address(lab: Lab) -> None:
    node(lab, "compute")["networks"]["provider"] = "203.0.113.31"
    assert "so it has no address; write provider: none" in the_one(lab)


def test_a_router_needs_the_provider_network(lab: Lab) -> None:
    del node(lab)["networks"]["provider"]
    assert "nodes.controller.runs[9]: neutron-l3 routes to 'provider'; attach" in the_one(lab)
    del node(lab, "compute")["networks"]["provider"]
    del lab["networks"]["provider"]
    assert "neutron-l3 routes to the provider network, but the lab has none" in the_one(lab)
    node(lab)["runs"].remove("neutron-l3")
    assert said(lab) == []
