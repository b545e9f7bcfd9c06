"""Neutron: self-service networks, allocated addresses, security groups, and access from outside."""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

import pytest
from openstack.exceptions import ConflictException

from labctl.testing import resources
from labctl.testing.waits import patient, wait_for

RULE_DEADLINE = 60  # seconds until the agent applies a changed rule
PEER_DEADLINE = 150


def opens(address, port=22):
    """True when a new TCP connection succeeds."""
    try:
        with socket.create_connection((address, port), timeout=max(4, patient(1))):
            return True
    except OSError:
        return False


@pytest.mark.smoke
def test_guest_has_its_allocated_address_and_the_security_group_decides_who_gets_in(
    lab, project, network, security_group, boot, ssh
):
    neutron = project.connection.network
    server = boot("door")
    guest = ssh(server)
    outside = guest.address
    assert ip_address(outside) in ip_network(lab.external_cidr)

    port = resources.port_of(project, server)
    inside = port.fixed_ips[0]["ip_address"]
    assert f" {inside}/24 " in guest.output("ip -4 -o addr show scope global") + " "
    assert port.mac_address in guest.output("cat /sys/class/net/*/address")
    assert f"default via {network.subnet.gateway_ip}" in guest.output("ip route")

    (rule,) = (r for r in neutron.security_group_rules(security_group_id=security_group.id) if r.protocol == "tcp")
    assert opens(outside)
    neutron.delete_security_group_rule(rule.id, ignore_missing=False)
    wait_for(
        "port 22 to be closed for new connections",
        lambda: opens(outside),
        done=lambda seen: not seen,
        deadline=RULE_DEADLINE,
    )
    resources.allow(project, security_group, "tcp", 22)
    wait_for("port 22 to be open again", lambda: opens(outside), done=lambda seen: seen, deadline=RULE_DEADLINE)
    assert guest.connect().output("echo in") == "in"


def test_two_guests_of_a_network_reach_each_other(project, boot, ssh):
    first, second = boot("first", wait=False), boot("second", wait=False)
    first, second = resources.wait_servers(project.connection, (first, second))
    guest = ssh(first)
    other = resources.fixed_address(project, second)
    wait_for(
        f"ping from {first.name} to {other}",
        lambda: guest.run(f"ping -c 3 -w 6 {other}", check=False),
        done=lambda seen: seen.status == 0,
        failed=lambda _: resources.fault(project.connection.compute.get_server(second.id)),
        deadline=PEER_DEADLINE,
    )
    peer = ssh(second)
    back = resources.fixed_address(project, first)
    assert peer.run(f"ping -c 3 -w 10 {back}").status == 0
    assert peer.output("cat /proc/sys/kernel/random/boot_id") != guest.output("cat /proc/sys/kernel/random/boot_id")


def test_port_changed_while_plugged_does_not_keep_the_next_one_from_coming_up(project, network, boot):
    """Bug: the L2 agent failed to delete the old address filter and then retried forever (docs/platform.md)."""
    first = boot("first")
    neutron = project.connection.network
    (port,) = neutron.ports(device_id=first.id)
    pair = {"ip_address": resources.fixed_address(project, first), "mac_address": "fa:16:3e:00:00:01"}
    neutron.update_port(port.id, allowed_address_pairs=[pair])
    boot("second")


def test_floating_ip_moves_between_ports_and_is_released(lab, project, network, name):
    neutron = project.connection.network
    first = neutron.create_port(name=name("first"), network_id=network.id)
    second = neutron.create_port(name=name("second"), network_id=network.id)
    floating = neutron.create_ip(floating_network_id=network.external, port_id=first.id)
    assert ip_address(floating.floating_ip_address) in ip_network(lab.external_cidr)
    assert floating.fixed_ip_address == first.fixed_ips[0]["ip_address"]

    moved = neutron.update_ip(floating.id, port_id=second.id)
    assert moved.fixed_ip_address == second.fixed_ips[0]["ip_address"]
    assert moved.floating_ip_address == floating.floating_ip_address
    assert neutron.update_ip(floating.id, port_id=None).port_id is None

    neutron.delete_ip(floating.id, ignore_missing=False)
    assert list(neutron.ips()) == []


def test_network_and_router_in_use_cannot_be_deleted(project, network):
    neutron = project.connection.network
    with pytest.raises(ConflictException):
        neutron.delete_router(network.router.id)
    with pytest.raises(ConflictException):
        neutron.delete_network(network.id)
    assert neutron.get_network(network.id).subnet_ids == [network.subnet.id]


def test_router_of_a_project_answers_on_the_external_network(lab, project, network):
    router = wait_for(
        "the router to be ACTIVE",
        lambda: project.connection.network.get_router(network.router.id),
        done=lambda seen: seen.status == "ACTIVE",
        failed=lambda seen: seen.status if seen.status == "ERROR" else None,
        show=lambda seen: seen.status,
    )
    (gateway,) = router.external_gateway_info["external_fixed_ips"]
    assert ip_address(gateway["ip_address"]) in ip_network(lab.external_cidr)


def test_project_does_not_see_networks_of_others(project, other_project, network):
    assert network.id in {seen.id for seen in project.connection.network.networks()}
    assert network.id not in {seen.id for seen in other_project.connection.network.networks()}
