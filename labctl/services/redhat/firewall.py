"""firewalld: the openings of facts 8.2, or off where neutron's agents write the same tables.

On nodes with a layer-2 agent bridged traffic of guests and routers would end in firewalld's FORWARD chain,
and each reload would flush neutron's rules (troubleshooting B16); the notes switch it off there too.
"""

from __future__ import annotations

from labctl.plan.operations import Command, Item
from labctl.releases.model import Placement
from labctl.services.base import Context
from labctl.topology.model import Component as C
from labctl.topology.spec import NodeSpec

SOURCE = "facts 5.3 and 8.2; errata 0-16"
PORTS: dict[C, tuple[str, ...]] = {
    C.MARIADB: ("3306/tcp",),
    C.RABBITMQ: ("5672/tcp",),
    C.MEMCACHED: ("11211/tcp",),
    C.ETCD: ("2379/tcp", "2380/tcp"),
    C.KEYSTONE: ("123/udp", "5000/tcp"),
    C.GLANCE: ("9292/tcp",),
    C.PLACEMENT: ("8778/tcp",),
    C.NOVA_CONTROLLER: ("6080/tcp", "8774/tcp", "8775/tcp"),
    C.NOVA_COMPUTE: ("5900-5999/tcp", "16509/tcp", "49152-49215/tcp"),
    C.NEUTRON_SERVER: ("9696/tcp",),
    C.CINDER_CONTROLLER: ("8776/tcp",),
    C.CINDER_VOLUME: ("3260/tcp",),
    C.SWIFT_PROXY: ("8080/tcp",),
    C.SWIFT_STORAGE: ("873/tcp", "6200/tcp", "6201/tcp", "6202/tcp"),
    C.HEAT: ("8000/tcp", "8004/tcp"),
    C.HORIZON: ("80/tcp", "443/tcp"),
}


def openings(ctx: Context, node: NodeSpec) -> tuple[str, ...]:
    """What a node's components are asked on, as PORT/PROTOCOL."""
    found = [port for component in node.runs for port in PORTS.get(component, ())]
    if node.has(C.KEYSTONE):
        found.append(f"{ctx.release.identity_admin_port}/tcp")
    if ctx.release.placement is Placement.NONE:
        found = [port for port in found if port not in PORTS[C.PLACEMENT]]
    return tuple(dict.fromkeys(found))


def operations(ctx: Context, node: NodeSpec) -> tuple[Item, ...]:
    """Open what is needed, or switch firewalld off; it is never asked where it does not run (B15)."""
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
