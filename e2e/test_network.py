"""Neutron: self-service networks, allocated addresses, security groups, and access from outside."""

from __future__ import annotations

import socket
import subprocess
from ipaddress import ip_address, ip_network

import pytest
from openstack.exceptions import ConflictException

from labctl.testing import resources
from labctl.testing.waits import patient, wait_for

RULE_DEADLINE = 60  # seconds until the agent applies a changed rule
PEER_DEADLINE = 150
ADDRESS_DEADLINE = 60  # a router advertises itself when it is asked, and DHCPv6 answers in seconds
#: Bytes of the headers of an ICMP echo, with IPv4 and with IPv6.
HEADERS, IPV6_HEADERS = 28, 48
#: Prefixes of the projects' networks: documentation's (RFC 3849), which no topology of labctl's has outside.
INNER_PREFIXES = {"slaac": "2001:db8:e2e:1::/64", "dhcpv6-stateful": "2001:db8:e2e:2::/64"}


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


def echoes(address, size):
    """True when the answers to echoes of that many bytes come back; they may not be cut on their way."""
    words = ["ping", "-M", "do", "-s", str(size - HEADERS), "-c", "2", "-W", "3", address]
    return subprocess.run(words, check=False, capture_output=True, timeout=30).returncode == 0


def wait_echoes(project, guest, sender, receiver, address, size):
    """Wait until a guest gets the answers of another to echoes of that many bytes: as large as its card sends whole."""
    ping, headers = ("ping6", IPV6_HEADERS) if ":" in address else ("ping", HEADERS)
    wait_for(
        f"echoes of {size} bytes from {sender.name} to {address}",
        lambda: guest.run(f"{ping} -c 3 -w 6 -s {size - headers} {address}", check=False),
        done=lambda seen: seen.status == 0,
        failed=lambda _: resources.fault(project.connection.compute.get_server(receiver.id)),
        deadline=PEER_DEADLINE,
    )


def test_two_guests_of_a_network_reach_each_other_and_the_largest_packet_passes_whole(project, network, boot, ssh):
    neutron = project.connection.network
    inner, outer = (neutron.get_network(each).mtu for each in (network.id, network.external))
    first, second = boot("first", wait=False), boot("second", wait=False)
    first, second = resources.wait_servers(project.connection, (first, second))
    guest = ssh(first)
    other = resources.fixed_address(project, second)
    # the guest's card has the network's size: nothing on its way may need to cut a packet of it
    assert guest.output("cat /sys/class/net/eth0/mtu") == str(inner)
    wait_echoes(project, guest, first, second, other, inner)
    peer = ssh(second)
    back = resources.fixed_address(project, first)
    assert peer.run(f"ping -c 3 -w 10 {back}").status == 0
    assert peer.output("cat /proc/sys/kernel/random/boot_id") != guest.output("cat /proc/sys/kernel/random/boot_id")

    most = min(inner, outer)
    assert echoes(guest.address, most)
    assert not echoes(guest.address, most + 1), f"a packet of {most + 1} bytes passed networks of {inner} and {outer}"


def test_guests_on_and_behind_every_further_provider_network_answer(lab, project, name, boot, ssh):
    if not lab.more_networks:
        pytest.skip("the lab has one provider network")
    neutron = project.connection.network
    for number, other in enumerate(lab.more_networks):
        outside = resources.external_network_id(project, other)
        (cidr,) = (s.cidr for s in neutron.subnets(network_id=outside, ip_version=4))
        own = resources.make_network(project, name(other), f"172.16.{80 + number}.0/24", other)
        on, behind = boot("on", wait=False, network=outside), boot("behind", wait=False, network=own.id)
        on, behind = resources.wait_servers(project.connection, (on, behind))
        reached = (
            (on, resources.fixed_address(project, on)),
            (behind, resources.floating_address(project, behind, outside)),
        )
        for server, address in reached:
            assert ip_address(address) in ip_network(cidr)
            guest = ssh(server, address=address)
            size = int(guest.output("cat /sys/class/net/eth0/mtu"))
            assert echoes(address, min(size, neutron.get_network(outside).mtu))


def test_guests_on_a_vlan_of_the_lab_s_range_reach_each_other(lab, project, admin, name, boot, ssh):
    if not lab.vlan_physical:
        pytest.skip("the lab has no VLAN IDs for neutron to allocate")
    wanted = {"provider_network_type": "vlan", "provider_physical_network": lab.vlan_physical}
    tagged = admin.network.create_network(name=name("vlan"), project_id=project.id, **wanted)
    assert any(tagged.provider_segmentation_id in ids for ids in lab.vlan_ids)
    own = resources.make_network(project, name("vlan"), "172.16.91.0/24", network=tagged)
    servers = [boot(label, wait=False, network=own.id) for label in ("first", "second")]
    servers = resources.wait_servers(project.connection, servers)
    guest = ssh(servers[0])
    assert guest.output("cat /sys/class/net/eth0/mtu") == str(tagged.mtu)
    other = resources.fixed_address(project, servers[1])
    wait_echoes(project, guest, *servers, other, tagged.mtu)


@pytest.mark.parametrize("mode", ["slaac", "dhcpv6-stateful"])
def test_guests_speak_ipv6_with_each_other_and_with_the_outside(lab, project, name, security_group, boot, ssh, mode):
    if not lab.external_ipv6:
        pytest.skip("the lab's provider network has no IPv6 prefix")
    neutron = project.connection.network
    own = resources.make_network(project, name("six"), "172.16.90.0/24")
    modes = {"ipv6_ra_mode": mode, "ipv6_address_mode": mode}
    prefix = INNER_PREFIXES[mode]
    inner = neutron.create_subnet(name=name("six"), network_id=own.id, ip_version=6, cidr=prefix, **modes)
    neutron.add_interface_to_router(own.router.id, subnet=inner.id)
    for protocol, port in (("ipv6-icmp", None), ("tcp", 22)):
        resources.allow(project, security_group, protocol, port, "::/0")
    servers = [boot(label, wait=False, network=own.id) for label in ("first", "second")]
    servers = resources.wait_servers(project.connection, servers)
    first, second = (_ipv6_of(project, server) for server in servers)
    guest = ssh(servers[0])
    wait_for(
        f"{servers[0].name} to have its address {first}",
        lambda: guest.output("ip -6 -o addr show dev eth0 scope global"),
        done=lambda seen: f" {first}/" in seen,
        deadline=ADDRESS_DEADLINE,
    )
    wait_echoes(project, guest, *servers, second, int(guest.output("cat /sys/class/net/eth0/mtu")))

    router = neutron.get_router(own.router.id)
    fixed = (ip_address(each["ip_address"]) for each in router.external_gateway_info["external_fixed_ips"])
    (outer,) = (address for address in fixed if address.version == 6)
    assert outer in ip_network(lab.external_ipv6)
    # the lab's namespace is the router outside: it is told where the project's prefix is
    subprocess.run(["ip", "-6", "route", "add", prefix, "via", str(outer)], check=True)
    try:
        wait_for(f"SSH at {first}", lambda: opens(first), done=bool, deadline=PEER_DEADLINE)
        assert ssh(servers[0], address=first).output("echo in") == "in"
    finally:
        subprocess.run(["ip", "-6", "route", "del", prefix], check=True)


def _ipv6_of(project, server):
    fixed = resources.port_of(project, server).fixed_ips
    (address,) = (each["ip_address"] for each in fixed if ":" in each["ip_address"])
    return address


def test_port_changed_while_plugged_does_not_keep_the_next_one_from_coming_up(project, network, boot):
    """Bug: the L2 agent failed to delete the old address filter and then retried forever (docs/platform.md)."""
    first = boot("first")
    neutron = project.connection.network
    (port,) = neutron.ports(device_id=first.id)
    # one of VRRP's: neutron with OVN refuses others since 2026.1 (RFC 5798, 7.3)
    pair = {"ip_address": resources.fixed_address(project, first), "mac_address": "00:00:5e:00:01:01"}
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


def test_network_and_router_in_use_cannot_be_deleted(project, name):
    """On a network of its own: OVN's plug-in removes the gateway before it refuses (docs/platform.md)."""
    network = resources.make_network(project, name("used"))
    neutron = project.connection.network
    with pytest.raises(ConflictException):
        neutron.delete_router(network.router.id)
    with pytest.raises(ConflictException):
        neutron.delete_network(network.id)
    assert neutron.get_router(network.router.id).name == network.router.name
    assert neutron.get_network(network.id).subnet_ids == [network.subnet.id]


def test_router_of_a_project_answers_on_the_external_network(lab, project, network):
    router = wait_for(
        "the router to be ACTIVE",
        lambda: project.connection.network.get_router(network.router.id),
        done=lambda seen: seen.status == "ACTIVE",
        failed=lambda seen: seen.status if seen.status == "ERROR" else None,
        show=lambda seen: seen.status,
    )
    outside = [ip_address(fixed["ip_address"]) for fixed in router.external_gateway_info["external_fixed_ips"]]
    prefixes = [ip_network(prefix) for prefix in (lab.external_cidr, lab.external_ipv6) if prefix]
    assert len(outside) == len(prefixes)
    assert all(any(address in prefix for prefix in prefixes) for address in outside)


def test_project_does_not_see_networks_of_others(project, other_project, network):
    assert network.id in {seen.id for seen in project.connection.network.networks()}
    assert network.id not in {seen.id for seen in other_project.connection.network.networks()}
