"""Ports, networks and guests of a lab whose mechanism driver changes.

A port is bound by a mechanism driver, for a host, and nova keeps what it was told of it: guests are resumed with that
when nova-compute starts. So both are rewritten while nobody serves (neutron: ml2 database models; nova:
instance_info_caches); what has no binding then gets one by an update, when agents are alive.
"""

from __future__ import annotations

import json

from labctl.components import Component
from labctl.operations.networks import PortsBound
from labctl.operations.node import Command, Item, quote
from labctl.services import ml2, openvswitch
from labctl.services.base import Context
from labctl.topology.model import Mechanism

SOURCE = "neutron: remove-linuxbridge-driver release note; ml2 database models"
CARDS = "nova: instance_info_caches; os_vif_util, _nova_to_osvif_vif_ovs"
OVN = "neutron: OVN migration strategy; neutron-ovn-db-sync-util"


def _sql(title: str, database: str, statement: str, source: str) -> Command:
    return Command(title, f"printf '%s' {quote(statement)} | mysql -u root {database}", source=source)


def moved(ctx: Context, old: Mechanism) -> tuple[Item, ...]:
    """Give what a mechanism driver has bound to the lab's; repeating it does no harm."""
    new = ctx.lab.mechanism.value
    details = {
        "port_filter": True,
        "connectivity": "l2",
        "bridge_name": "br-int",
        "datapath_type": openvswitch.datapath(ctx),
        "bound_drivers": {"0": new},
    }
    if ctx.lab.mechanism is Mechanism.OPENVSWITCH:
        details["ovs_hybrid_plug"] = False
    # bindings of other drivers, and those that are new already, stay
    statement = (
        "UPDATE ml2_port_bindings b JOIN ml2_port_binding_levels l ON l.port_id = b.port_id AND l.host = b.host "
        f"SET b.vif_type = 'ovs', b.vif_details = '{json.dumps(details)}' WHERE l.driver = '{old.value}'; "
        f"UPDATE ml2_port_binding_levels SET driver = '{new}' WHERE driver = '{old.value}'; "
        "DELETE FROM agents"
    )
    made: list[Item] = [_sql(f"ports are bound by {new} instead of {old.value}", "neutron", statement, SOURCE)]
    if old is Mechanism.LINUXBRIDGE and ctx.lab.has(Component.NOVA_CONTROLLER):
        made.append(_sql("guests get cards of Open vSwitch", "nova", _cards(ctx), CARDS))
    return tuple(made)


def _cards(ctx: Context) -> str:
    """SQL by which nova resumes guests with ports of Open vSwitch instead of linuxbridge."""
    value = "network_info"
    for text, instead in (
        ('"type": "bridge"', '"type": "ovs"'),
        ('"should_create_bridge": true', '"should_create_bridge": false'),
        (
            '"port_filter": true',
            f'"port_filter": true, "ovs_hybrid_plug": false, "datapath_type": "{openvswitch.datapath(ctx)}"',
        ),
    ):
        value = f"REPLACE({value}, '{text}', '{instead}')"
    value = f"""REGEXP_REPLACE({value}, '"bridge": "brq[^"]*"', '"bridge": "br-int"')"""
    where = """network_info LIKE '%"type": "bridge"%'"""
    return f"UPDATE instance_info_caches SET network_info = {value} WHERE {where}"


def bridges_gone() -> Command:
    """Remove the bridges as neutron's agent has left them; the recipe makes its own.

    Its br-int does not speak OpenFlow 1.5, which ovn-controller needs, and its provider bridges forward nothing without
    it (``fail_mode`` secure).
    """
    return Command(
        "bridges of neutron's agent are gone",
        # its daemons are not started yet
        "systemctl start ovsdb-server && if ovs-vsctl --no-wait br-exists br-tun; then "
        "for bridge in $(ovs-vsctl --no-wait list-br); do ovs-vsctl --no-wait del-br $bridge || exit 1; done; fi",
        source=OVN,
    )


def northbound(ctx: Context) -> tuple[Item, ...]:
    """Bring OVN's northbound database in line with neutron's; tunnels become Geneve's, whose packets are smaller."""
    files = "--config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini"
    run = f"neutron-ovn-db-sync-util {files} --ovn-neutron_sync_mode migrate"
    smaller = (
        "UPDATE networks n JOIN networksegments s ON s.network_id = n.id "
        f"SET n.mtu = LEAST(n.mtu, {ml2.tenant_mtu(ctx)}) WHERE s.network_type IN ('vxlan', 'geneve')"
    )
    return (
        _sql("networks of projects have room for Geneve's header", "neutron", smaller, OVN),
        Command("OVN has what neutron has", f"su -s /bin/sh -c {quote(run)} neutron", source=OVN),
    )


def bound(ctx: Context) -> tuple[PortsBound, ...]:
    """Bind what has no binding yet; OVN needs no ports of DHCP servers."""
    gone = ("network:dhcp",) if ctx.lab.mechanism is Mechanism.OVN else ()
    return (PortsBound(gone),)
