"""neutron's ML2 plugin: types of networks, physical networks with their VLANs, and sizes of packets."""

from __future__ import annotations

from labctl.operations.ini import Ini
from labctl.operations.node import File
from labctl.services import openvswitch, ovn
from labctl.services.base import Context
from labctl.topology.defaults import PHYSICAL
from labctl.topology.mechanism import OVERHEAD
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.spec import NetworkSpec

GUIDE = "guide: neutron install, networking option 2, self-service networks; facts 6.5"
PACKETS = "topology: mtu; neutron networking guide: MTU considerations"
#: VLANs of projects' networks, where Open vSwitch cannot tunnel and the topology names none.
TENANT_VLANS = "1000:1999"


def conf(ctx: Context) -> File:
    """ml2_conf.ini: the available network types."""
    mechanism = ctx.lab.mechanism
    source = {Mechanism.LINUXBRIDGE: GUIDE, Mechanism.OPENVSWITCH: openvswitch.GUIDE, Mechanism.OVN: ovn.GUIDE}[
        mechanism
    ]
    made = Ini("/etc/neutron/plugins/ml2/ml2_conf.ini", group="neutron")
    tenants = "geneve" if mechanism is Mechanism.OVN else "vxlan" if openvswitch.tunnels(ctx) else "vlan"
    drivers = [mechanism.value]
    if tenants == "vxlan":
        drivers.append("l2population")
    made.set(
        "ml2",
        source,
        {
            "type_drivers": ",".join(dict.fromkeys(("flat", "vlan", tenants))),
            ctx.release.neutron_network_types: tenants,
            "mechanism_drivers": ",".join(drivers),
            "extension_drivers": "port_security",
        },
    )
    _packet_sizes(ctx, made)
    made.set("ml2_type_flat", source, {"flat_networks": ",".join(_physical(ctx))})
    match tenants:
        case "geneve":
            made.set("ml2_type_geneve", source, {"vni_ranges": "1:65536", "max_header_size": ovn.HEADER})
        case "vxlan":
            made.set("ml2_type_vxlan", source, {"vni_ranges": "1:1000"})
    if ranges := _vlan_ranges(ctx, tenants):
        why = openvswitch.USERSPACE if tenants == "vlan" else f"{source}; topology: vlan, vlans"
        made.set("ml2_type_vlan", why, {"network_vlan_ranges": ranges})
    if mechanism is Mechanism.OVN:
        made.set("securitygroup", source, {"enable_security_group": True})
        made.set("ovn", source, ovn.connections(ctx))
    else:
        made.set("securitygroup", source, {"enable_ipset": True})
    return made.file()


def _physical(ctx: Context) -> list[str]:
    """The names of the physical networks; a lab without a provider network has the name all the same."""
    return list(dict.fromkeys(network.physical for network in ctx.lab.providers)) or [PHYSICAL]


def _vlan_ranges(ctx: Context, tenants: str) -> str:
    """The physical networks that carry VLANs, each with the ranges that neutron allocates from, or none."""
    ranges: dict[str, list[str]] = {}
    for network in ctx.lab.providers:
        if network.vlan is not None or network.vlans:
            found = ranges.setdefault(network.physical, [])
            found += [f"{network.physical}:{each.first}:{each.last}" for each in network.vlans]
    if tenants == "vlan" and not any(ranges.values()):
        first = _physical(ctx)[0]
        ranges[first] = [f"{first}:{TENANT_VLANS}"]
    return ",".join(text for physical, found in ranges.items() for text in found or [physical])


def _underlay(ctx: Context) -> NetworkSpec:
    """The network that carries the tunnels of projects' networks."""
    return ctx.lab.network(NetworkRole.OVERLAY) or ctx.lab.management


def largest_packet(ctx: Context) -> int:
    """Bytes of the largest packet of any network that neutron knows of: ``global_physnet_mtu``."""
    return max(network.mtu for network in (_underlay(ctx), *ctx.lab.providers))


def tenant_mtu(ctx: Context) -> int:
    """Bytes of the largest packet in a project's network of its own, which is a tunnel."""
    return _underlay(ctx).mtu - OVERHEAD[ctx.lab.mechanism]


def _packet_sizes(ctx: Context, made: Ini) -> None:
    """Where packets are smaller than the largest: neutron takes the smaller of two sizes."""
    largest, under = largest_packet(ctx), _underlay(ctx).mtu
    if under != largest:
        made.set("ml2", PACKETS, {"path_mtu": under})
    smaller = [f"{n.physical}:{n.mtu}" for n in ctx.lab.segments if n.role is NetworkRole.PROVIDER and n.mtu != largest]
    if smaller:
        made.set("ml2", PACKETS, {"physical_network_mtus": ",".join(smaller)})
