"""Ports and networks of a lab whose mechanism driver changes.

A port is bound by a mechanism driver, for a host. What the old one has bound is unbound in the database while nobody
serves, and bound again when the agents of the new one are alive: an update of a port binds it (neutron:
plugins/ml2/plugin.py, _bind_port_if_needed).
"""

from __future__ import annotations

from labctl.operations.networks import PortsBound
from labctl.operations.node import Command, Item, quote
from labctl.services import ml2
from labctl.services.base import Context
from labctl.topology.model import Mechanism

SOURCE = "neutron: remove-linuxbridge-driver release note; ml2 database models"
OVN = "neutron: OVN migration strategy; neutron-ovn-db-sync-util"


def _sql(title: str, statement: str, source: str) -> Command:
    return Command(title, f"printf '%s' {quote(statement)} | mysql -u root neutron", source=source)


def unbound(old: Mechanism) -> tuple[Item, ...]:
    """Take back what a mechanism driver has bound, and the agents that no longer report; repeating it does no harm."""
    # bindings of other drivers, as those that a killed upgrade has bound anew, stay
    statement = (
        "UPDATE ml2_port_bindings b JOIN ml2_port_binding_levels l ON l.port_id = b.port_id AND l.host = b.host "
        f"SET b.vif_type = 'unbound', b.vif_details = '' WHERE l.driver = '{old.value}'; "
        f"DELETE FROM ml2_port_binding_levels WHERE driver = '{old.value}'; "
        "DELETE FROM agents"
    )
    return (_sql(f"ports are not bound by {old.value} any more", statement, SOURCE),)


def northbound(ctx: Context) -> tuple[Item, ...]:
    """Bring OVN's northbound database in line with neutron's; tunnels become Geneve's, whose packets are smaller."""
    files = "--config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini"
    run = f"neutron-ovn-db-sync-util {files} --ovn-neutron_sync_mode migrate"
    smaller = (
        "UPDATE networks n JOIN networksegments s ON s.network_id = n.id "
        f"SET n.mtu = LEAST(n.mtu, {ml2.tenant_mtu(ctx)}) WHERE s.network_type IN ('vxlan', 'geneve')"
    )
    return (
        _sql("networks of projects have room for Geneve's header", smaller, OVN),
        Command("OVN has what neutron has", f"su -s /bin/sh -c {quote(run)} neutron", source=OVN),
    )


def bound(ctx: Context) -> tuple[PortsBound, ...]:
    """Bind ports again; OVN needs no ports of DHCP servers."""
    gone = ("network:dhcp",) if ctx.lab.mechanism is Mechanism.OVN else ()
    return (PortsBound(gone),)
