"""Labs on clouds whose ports filter packets in any case."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_cloud import MemoryCloud
from memory_lab import killed, up
from support import specify

from labctl.drivers.openstack import leftovers, machine, marks
from labctl.drivers.openstack.machine import OpenStack
from labctl.errors import LabError
from labctl.host import network
from labctl.records import clouds
from labctl.records.lab import Lab
from labctl.topology import load


@pytest.fixture
def lab(lab_on_cloud: Lab) -> Lab:
    return lab_on_cloud


def filtering(cloud: MemoryCloud, how: str) -> None:
    if how == "extension":
        cloud.aliases.remove("port-security")
    else:
        cloud.strict = True


@pytest.mark.parametrize("how", ["extension", "policy"])
def test_where_ports_filter_in_any_case_known_addresses_pass_by_pairs_and_an_open_group(
    how: str, lab: Lab, cloud: MemoryCloud
) -> None:
    filtering(cloud, how)
    up(lab)
    ports = {port["name"]: port for port in cloud.things["/v2.0/ports"].values()}
    assert not any("port_security_enabled" in port for port in ports.values())
    anywhere = [{"ip_address": "0.0.0.0/0"}, {"ip_address": "::/0"}]
    assert ports["mine.first.eth0"]["allowed_address_pairs"] == anywhere
    mac = network.own_mac(lab.spec, "management")
    assert mac not in {card.mac for node in lab.spec.nodes.values() for card in node.interfaces}
    assert ports["mine.gateway.management"]["allowed_address_pairs"] == [{**e, "mac_address": mac} for e in anywhere]

    groups = {group["name"]: group for group in cloud.things["/v2.0/security-groups"].values()}
    assert groups.keys() == {"mine.gateway", "mine.open"}
    assert all(marks.mine(group, "mine") for group in groups.values())
    everything = groups["mine.open"]["id"]
    assert {tuple(p["security_groups"]) for name, p in ports.items() if "outside" not in name and name} == {
        (everything,)
    }
    rules = [r for r in cloud.things["/v2.0/security-group-rules"].values() if r["security_group_id"] == everything]
    assert sorted((rule["direction"], rule["ethertype"]) for rule in rules) == [
        ("egress", "IPv4"), ("egress", "IPv6"), ("ingress", "IPv4"), ("ingress", "IPv6"),
    ]  # fmt: skip
    assert not any(rule.get("protocol") for rule in rules)
    assert ports["mine.gateway.outside"]["security_groups"] == [groups["mine.gateway"]["id"]], "only SSH from outside"

    made = cloud.made()
    up(lab)
    assert cloud.made() == made
    assert leftovers.sweep("mine") == []
    assert set(cloud.made()) == {"/v2/images"}


def test_labctl_may_be_killed_while_it_makes_an_open_group(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.aliases.remove("port-security")
    up(lab)
    rules = {(r["direction"], r["ethertype"]) for r in cloud.things["/v2.0/security-group-rules"].values()}
    whole = cloud.made()
    first = next(n for n, r in enumerate(cloud.requests, 1) if r == "GET /v2.0/security-group-rules")
    for number in range(first - 1, first + 4):
        assert leftovers.sweep("mine") == []
        cloud.things["/v2.0/security-group-rules"].clear()
        cloud.things["/v2/images"].clear()
        for node in lab.spec.nodes:
            (lab.node_directory(node) / machine.ORIGIN).unlink()
        assert killed(cloud, number, lambda: up(lab))
        up(lab)
        assert cloud.made() == whole
        found = cloud.things["/v2.0/security-group-rules"].values()
        assert {(r["direction"], r["ethertype"]) for r in found} == rules


@pytest.mark.parametrize("how", ["extension", "policy"])
def test_neutrons_agents_on_a_provider_network_need_ports_without_a_filter(
    how: str, cloud: MemoryCloud, home: Path, tmp_path: Path
) -> None:
    path = load.find("epoxy-2node")
    spec = specify(path, name="mine").model_copy(update={"driver": "openstack", "cloud": "memory"})
    lab = Lab.create(spec, path)
    lab.ensure_keys()
    cloud.limits = dict.fromkeys(cloud.limits, -1)
    filtering(cloud, how)
    with pytest.raises(LabError) as failed:
        OpenStack("memory").create_network(lab)
    assert "has Neutron's agents on the provider network provider, behind which are MAC" in failed.value.message
    reason = "it has no extension port-security" if how == "extension" else "is disallowed by policy"
    assert reason in failed.value.message
    assert failed.value.hint.endswith("with another driver")
    assert "/servers" not in cloud.made()
    if how == "extension":
        assert cloud.made() == {}, "it was said before anything was made"
        assert clouds.known() == {}
    assert leftovers.sweep("mine") == []


def test_a_cloud_without_pairs_too_is_refused(lab: Lab, cloud: MemoryCloud) -> None:
    cloud.aliases -= {"port-security", "allowed-address-pairs"}
    with pytest.raises(LabError, match="filters the packets of a lab's networks and does not let that be turned off"):
        up(lab)
    assert cloud.made() == {}
