"""Open Virtual Network below neutron: databases and northd beside its server, a chassis on each node with ports.

Routers, DHCP and floating IPs are flows of Open vSwitch; only metadata has an agent (modern facts 5.1;
https://docs.openstack.org/neutron/latest/install/ovn/manual_install.html).
"""

from __future__ import annotations

from collections.abc import Mapping

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import RELOAD, Assign, Command, File, Operation
from labctl.services import openvswitch
from labctl.services.base import Context, Daemon
from labctl.topology.model import NetworkRole
from labctl.topology.spec import NodeSpec

GUIDE = "guide: neutron install, OVN; modern facts 5.1"
NORTHBOUND, SOUTHBOUND = 6641, 6642
METADATA_AGENT = "neutron-ovn-metadata-agent"
MAINTENANCE = "neutron-ovn-maintenance-worker"
#: Bytes of Geneve's header: 30 of its own, 8 of OVN's option.
HEADER = 38


def _database(ctx: Context, port: int) -> str:
    """The address of one of OVN's databases; an address, as names may not resolve at boot."""
    return f"tcp:{ctx.lab.address(ctx.lab.host_of(Component.NEUTRON_SERVER))}:{port}"


def connections(ctx: Context) -> dict[str, str | bool]:
    """Options of the section ``ovn`` of neutron's server."""
    return {
        "ovn_nb_connection": _database(ctx, NORTHBOUND),
        "ovn_sb_connection": _database(ctx, SOUTHBOUND),
        "ovn_metadata_enabled": True,
    }


def has_metadata(node: NodeSpec) -> bool:
    """True where guests ask for metadata."""
    return node.has(Component.NOVA_COMPUTE)


def alone(ctx: Context) -> tuple[Operation, ...]:
    """northd stops without OVN's databases.

    Debian's unit starts it with ``--ovn-manage-ovsdb=no`` and stops it without (OVN 25.03, ``stop_northd`` in ovn-ctl),
    which tells both databases to exit; as they end well, systemd does not start them again.
    """
    unit = ctx.base.unit("ovn-northd")
    stop = "/usr/share/ovn/scripts/ovn-ctl stop_northd --ovn-manage-ovsdb=no --no-monitor"
    text = f"[Service]\nExecStop=\nExecStop={stop}\n"
    return (File(f"/etc/systemd/system/{unit}.service.d/labctl.conf", text, source="labctl: ovn-ctl"), RELOAD)


def central(ctx: Context) -> tuple[Operation, ...]:
    """The databases, open to the lab's nodes, and the unit that neutron's package lacks."""
    options = "--db-nb-create-insecure-remote=yes --db-sb-create-insecure-remote=yes"
    assigned = Assign(ctx.base.paths["ovn-central"], (("OVN_CTL_OPTS", f'"{options}"'),), GUIDE, separator="=")
    script = ctx.base.paths.get("ovn-maintenance-script")
    if script is None:
        return (assigned, *alone(ctx))
    unit = f"""# Made by labctl: Debian's package has only a script for init (modern facts 2.2)
[Unit]
Description=Neutron OVN Maintenance Worker
After=network.target

[Service]
Type=simple
User=neutron
Group=neutron
ExecStart={script} systemd-start
Restart=on-failure
LimitNOFILE=65535

[Install]
WantedBy=multi-user.target
"""
    return (assigned, File(f"/etc/systemd/system/{MAINTENANCE}.service", unit, source=GUIDE), *alone(ctx))


def chassis(ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
    """What ovn-controller reads from Open vSwitch's database: who it is, and whom it asks."""
    wires = ctx.lab.wires(node)
    values = {
        "system-id": node.name,
        "hostname": node.name,
        "ovn-remote": _database(ctx, SOUTHBOUND),
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": str(ctx.lab.address(node, NetworkRole.OVERLAY)),
        "ovn-bridge-datapath-type": openvswitch.datapath(ctx),
    }
    if wires:
        values["ovn-bridge-mappings"] = openvswitch.mappings(wires)
    if node.has(Component.NEUTRON_L3):  # where routers reach the provider network
        values["ovn-cms-options"] = "enable-chassis-as-gw"
    words = " ".join(f"external_ids:{key}={value}" for key, value in values.items())
    test = " && ".join(
        f"ovs-vsctl get Open_vSwitch . external_ids:{key} 2>/dev/null | tr -d '\\042' | grep -qxF {value}"
        for key, value in values.items()
    )
    return (
        # ovs-ctl writes it into the database at each start
        File("/etc/openvswitch/system-id.conf", f"{node.name}\n", source=GUIDE),
        Command("chassis of OVN", f"ovs-vsctl set Open_vSwitch . {words}", unless=test, source=GUIDE),
    )


def metadata_agent(ctx: Context, nova: Mapping[str, str]) -> File:
    """neutron_ovn_metadata_agent.ini.

    :param nova: options of where nova answers, as every metadata agent has them.
    """
    conf = Ini("/etc/neutron/neutron_ovn_metadata_agent.ini", group="neutron")
    conf.set("DEFAULT", GUIDE, nova)
    conf.set("ovs", GUIDE, {"ovsdb_connection": openvswitch.DATABASE})
    conf.set("ovn", GUIDE, {"ovn_sb_connection": _database(ctx, SOUTHBOUND)})
    return conf.file()


def daemons(ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
    """OVN's daemons on a node: the databases before neutron's server, which connects to them."""
    made: list[Daemon] = []
    if node.has(Component.NEUTRON_SERVER):
        ready = tuple(
            (f"OVN's {name} database answers", f"ovn-{short}ctl --timeout=5 --db=tcp:127.0.0.1:{port} show")
            for name, short, port in (("northbound", "nb", NORTHBOUND), ("southbound", "sb", SOUTHBOUND))
        )
        made += [Daemon("ovn-northd", ready, order=0), Daemon(MAINTENANCE, order=2)]
    if node.has(Component.NEUTRON_L2):
        made.append(Daemon("ovn-controller", order=2, stage="compute"))
        if has_metadata(node):
            made.append(Daemon(METADATA_AGENT, order=3, stage="compute"))
    return tuple(made)


def agents(ctx: Context) -> list[tuple[str, str]]:
    """What neutron lists as agents: (binary, host)."""
    nodes = ctx.lab.running(Component.NEUTRON_L2)
    return [
        *(("ovn-controller", node.name) for node in nodes),
        *((METADATA_AGENT, node.name) for node in nodes if has_metadata(node)),
    ]
