"""Open vSwitch on a node: the datapath, and the bridges of its cards.

Where the kernel has no datapath (containers on most hosts) Open vSwitch forwards packets itself,
``datapath_type=netdev``. It then reads cards through packet sockets, which hand over frames before their checksums are
computed: without ``userspace-tso-enable`` no TCP connection opens (docs/platform.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.operations.node import Command, File, Operation
from labctl.services.base import Context
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.spec import InterfaceSpec, NodeSpec

GUIDE = "guide: neutron install, Open vSwitch; facts 6.6"
USERSPACE = "Open vSwitch: Userspace TSO; Using Open vSwitch without kernel support"
#: Where os-vif asks Open vSwitch's database by default, and what opens that.
DATABASE, MANAGER = "tcp:127.0.0.1:6640", "ptcp:6640:127.0.0.1"
#: Commands that Open vSwitch's own scripts find before the system's.
COMMANDS = "/usr/local/lib/labctl/openvswitch"
MODPROBE = """#!/bin/sh
# Made by labctl: a container loads no kernel module, and ovs-ctl would not start without (ovs-kmod-ctl).
exit 0
"""
PATH = f"[Service]\nEnvironment=PATH={COMMANDS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\n"


#: libvirt runs it before it makes a machine's devices. A machine that is rebooted gets a new tap device under the old
#: name; Open vSwitch's own datapath would go on reading the old one, and the machine has no network. Another number of
#: the port makes it open the device anew.
HOOK = """#!/bin/sh
# Made by labctl: a tap device that is made anew is a new port (docs/platform.md)
[ "$2" = prepare ] || exit 0
sed -n "s/.*<target dev=['\\"]\\(tap[^'\\"]*\\)['\\"].*/\\1/p" | while read -r tap; do
    port=$(ovs-vsctl --timeout=20 --if-exists get interface "$tap" ofport)
    case $port in
    *[!0-9]* | '') ;; # not there before
    *) ovs-vsctl --timeout=20 set interface "$tap" ofport_request=$(((port + 30000) % 60000)) ;;
    esac
done
"""


def mappings(wires: Iterable[tuple[str, InterfaceSpec]]) -> str:
    """The bridges of physical networks, as agents and OVN read them."""
    return ",".join(f"{physical}:{bridge_of(card)}" for physical, card in wires)


def bridge_of(card: InterfaceSpec) -> str:
    """The bridge that holds a card."""
    return f"br-{card.name}"


def datapath(ctx: Context) -> str:
    """The type of all bridges of the lab: patch ports join only bridges of one type."""
    return "netdev" if ctx.lab.userspace_datapath else "system"


def tunnels(ctx: Context) -> bool:
    """True if projects' networks are tunnels; else they are VLANs of the provider network."""
    return not ctx.lab.userspace_datapath or ctx.base.userspace_tunnels


def tunnels_on_bridge(ctx: Context, node: NodeSpec) -> InterfaceSpec | None:
    """The card that Open vSwitch itself sends tunnels through: its own datapath uses no other."""
    own = ctx.lab.userspace_datapath and tunnels(ctx)
    return ctx.lab.interface(node, NetworkRole.OVERLAY) if own else None


def prepare(ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
    """Start Open vSwitch with its datapath, and give it the node's cards."""
    made: list[Operation] = []
    unit = ctx.base.unit("openvswitch")
    if ctx.lab.userspace_datapath:
        wanted = "ovs-vsctl --no-wait get Open_vSwitch . other_config:userspace-tso-enable"
        made += [
            File(f"{COMMANDS}/modprobe", MODPROBE, mode="0755", source=USERSPACE),
            File("/etc/systemd/system/ovs-vswitchd.service.d/labctl.conf", PATH, source=USERSPACE),
            Command(
                "Open vSwitch's own datapath, with segmentation offload",
                # read when the daemon starts, and never again
                f"systemctl daemon-reload && systemctl stop {unit} && systemctl start ovsdb-server && ovs-vsctl "
                "--no-wait set Open_vSwitch . other_config:userspace-tso-enable=true",
                unless=f"{wanted} 2>/dev/null | grep -q true",
                source=USERSPACE,
            ),
        ]
    made.append(
        Command(
            "Open vSwitch runs",
            f"systemctl enable -q {unit} && systemctl restart {unit}",
            unless=f"systemctl is-enabled -q {unit} && systemctl is-active -q {unit} ovs-vswitchd",
            source=f"{GUIDE}; errata 3-55 to 3-58",
        )
    )
    made.append(
        Command(
            "Open vSwitch's database answers nova and neutron",
            f"ovs-vsctl set-manager {MANAGER}",
            unless=f'[ "$(ovs-vsctl get-manager)" = {MANAGER} ]',
            # neutron's agent would do it too, when it starts; nova may resume guests before
            source=f"{GUIDE}; os-vif and neutron: ovsdb_connection",
        )
    )
    if ctx.lab.mechanism is Mechanism.OPENVSWITCH:
        made.append(_integration(ctx))
    made += [_bridge(ctx, card) for _, card in ctx.lab.wires(node)]
    if overlay := tunnels_on_bridge(ctx, node):
        made += (_bridge(ctx, overlay), *_moved(ctx, overlay))
    return tuple(made)


def hook(ctx: Context) -> tuple[Operation, ...]:
    """What a hypervisor must do before it starts a machine; before libvirtd starts, which looks for it only then."""
    if not ctx.lab.userspace_datapath:
        return ()
    return (File("/etc/libvirt/hooks/qemu", HOOK, mode="0755", source="libvirt: Hooks for specific system management"),)


def _integration(ctx: Context) -> Command:
    """The bridge of neutron's agent, with all versions of OpenFlow that the agent and its firewall add to it.

    A version that is added later makes Open vSwitch connect anew, and a request that the agent sends meanwhile is never
    answered: it waits for five minutes, from 2026.1 on for ever (docs/platform.md).
    """
    versions = [f"OpenFlow{number}" for number in range(10, 15)]
    return Command(
        "the bridge br-int, with what neutron's agent speaks",
        f"ovs-vsctl --may-exist add-br br-int -- set bridge br-int datapath_type={datapath(ctx)} "
        f"protocols={','.join(versions)}",
        unless=f'[ "$(ovs-vsctl get bridge br-int protocols)" = "[{", ".join(versions)}]" ]',
        source="Launchpad bug 1948642; neutron: OVSFirewallDriver.REQUIRED_PROTOCOLS",
    )


def _bridge(ctx: Context, card: InterfaceSpec) -> Command:
    """A bridge with a card; Open vSwitch keeps it across reboots (troubleshooting A26)."""
    bridge, kind = bridge_of(card), datapath(ctx)
    return Command(
        f"{card.name} in the bridge {bridge}",
        f"ovs-vsctl --may-exist add-br {bridge} -- set bridge {bridge} datapath_type={kind} -- "
        f"--may-exist add-port {bridge} {card.name} && ip link set dev {bridge} up",
        unless=f'[ "$(ovs-vsctl port-to-br {card.name})" = {bridge} ] && '
        f'[ "$(ovs-vsctl get bridge {bridge} datapath_type)" = {kind} ]',
        source=f"{GUIDE}; errata 3-55 to 3-58",
    )


def _moved(ctx: Context, card: InterfaceSpec) -> tuple[Operation, ...]:
    """The card's address on its bridge, now and after each start of Open vSwitch."""
    bridge, unit = bridge_of(card), f"labctl-{bridge_of(card)}.service"
    network = ctx.lab.networks[card.network]
    address = f"{card.address}/{network.cidr.prefixlen}"
    text = (
        f"[Unit]\nDescription=Address of tunnels on {bridge}\nAfter=ovs-vswitchd.service\n"
        "PartOf=ovs-vswitchd.service\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=/bin/sh -c 'ip address flush dev {card.name} scope global; ip address replace {address} "
        f"dev {bridge} && ip link set dev {bridge} up'\n\n[Install]\nWantedBy=ovs-vswitchd.service\n"
    )
    source = "Open vSwitch: Native Tunneling; a tunnel's own address is on a bridge"
    return (
        File(f"/etc/systemd/system/{unit}", text, source=source),
        Command(
            f"{card.address} on the bridge {bridge}",
            f"systemctl daemon-reload && systemctl enable -q {unit} && systemctl restart {unit}",
            unless=f"ip -o address show dev {bridge} 2>/dev/null | grep -qF ' {address} '",
            source=source,
        ),
    )
