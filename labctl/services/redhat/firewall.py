"""firewalld: the open ports of facts 8.2, or disabled where neutron's agents write the same tables.

On nodes with a layer-2 agent bridged traffic of guests and routers would end up in firewalld's FORWARD chain,
and each reload would flush neutron's rules (troubleshooting B16); the notes disable it there too.
"""

from __future__ import annotations

from labctl.components import Component as C
from labctl.operations.node import Command, Item
from labctl.services import SERVICES, infra
from labctl.services.base import Context
from labctl.topology.spec import NodeSpec

SOURCE = "facts 5.3 and 8.2; errata 0-16"


def openings(ctx: Context, node: NodeSpec) -> tuple[str, ...]:
    """The ports a node's components listen on, as PORT/PROTOCOL."""
    ports = {**infra.PORTS, **{c: ports for service in SERVICES for c, ports in service.ports.items()}}
    found = [port for component in node.runs for port in ports.get(component, ())]
    if node.has(C.KEYSTONE):
        found.append(f"{ctx.release.identity_admin_port}/tcp")
    return tuple(dict.fromkeys(found))


def operations(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Open the needed ports, or disable firewalld; it is never queried where it does not run (B15)."""
    if node.has(C.NEUTRON_L2):
        return (
            Command(
                "no firewalld beside neutron's agent",
                "systemctl disable firewalld && systemctl stop firewalld",
                unless='[ "$(systemctl is-active firewalld)" != active ] && ! systemctl is-enabled -q firewalld',
                source="facts 8.2; errata 3-65",
            ),
        )
    wanted = openings(ctx, node)
    if not wanted:
        return ()
    ports = " ".join(wanted)
    opened = " && ".join(
        f"! printf '%s\\n' {ports} | grep -qvxF \"$(firewall-cmd {when}--list-ports | tr ' ' '\\n')\""
        for when in ("", "--permanent ")
    )
    adding = " ".join(f"--add-port={port}" for port in wanted)
    return (
        Command(
            "firewalld runs",
            "systemctl unmask firewalld && systemctl enable firewalld && systemctl restart firewalld",
            unless="systemctl is-enabled -q firewalld && firewall-cmd --state",
            source=SOURCE,
        ),
        Command(
            f"openings {ports}",
            f"firewall-cmd -q --permanent {adding} && firewall-cmd -q --reload",
            unless=opened,
            source=SOURCE,
        ),
    )
