"""neutron with ML2, self-service networks over VXLAN and a flat provider network: facts 6.5 and 6.6."""

from __future__ import annotations

from labctl.components import Component
from labctl.operations.ini import Ini
from labctl.operations.node import Command, Database, Directory, File, Link, Operation
from labctl.operations.openstack import AgentsAlive, ApiOperation, CatalogAnswers, CatalogEntry
from labctl.operations.populate import Populate
from labctl.secret import mark
from labctl.services import ml2, openvswitch, ovn
from labctl.services.base import (
    Chapter,
    Check,
    Context,
    Daemon,
    authtoken,
    fills,
    http_ready,
    messaging,
    notifications,
    password_auth,
    privileged,
    service_account,
    stretch,
    tables,
)
from labctl.services.wsgi import processes
from labctl.topology.defaults import MTU
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.spec import NodeSpec

GUIDE = ml2.GUIDE
OVS = openvswitch.GUIDE
L2_AGENT = {
    Mechanism.LINUXBRIDGE: "neutron-linuxbridge-agent",
    Mechanism.OPENVSWITCH: "neutron-openvswitch-agent",
}
#: Sections of the agents' privileged helpers (neutron/privileged).
HELPERS = ("privsep", *(f"privsep_{of}" for of in ("dhcp_release", "ovs_vsctl", "namespace", "conntrack", "link")))
#: Components whose work OVN does without an agent.
AGENTS = (Component.NEUTRON_L3, Component.NEUTRON_DHCP, Component.NEUTRON_METADATA)
COMPONENTS = (Component.NEUTRON_SERVER, Component.NEUTRON_L2, *AGENTS)


def neutron_conf(ctx: Context, server: bool) -> File:
    """neutron.conf; only the server's node has the database and nova's account."""
    conf = Ini("/etc/neutron/neutron.conf", group="neutron")
    router = "ovn-router" if ctx.lab.mechanism is Mechanism.OVN else "router"
    conf.set("DEFAULT", GUIDE, {"core_plugin": "ml2", "service_plugins": router, "auth_strategy": "keystone"})
    messaging(ctx, conf)
    authtoken(ctx, conf, "neutron")
    conf.set("oslo_concurrency", GUIDE, {"lock_path": "/var/lib/neutron/tmp"})
    privileged(ctx, conf, *HELPERS)
    rootwrap = {"root_helper": "sudo neutron-rootwrap /etc/neutron/rootwrap.conf"}
    # an agent runs dozens of commands for each port, and each would start a Python interpreter
    daemon = {"root_helper_daemon": "sudo neutron-rootwrap-daemon /etc/neutron/rootwrap.conf"}
    conf.set("agent", "neutron.conf: as the packages ship it", rootwrap)
    conf.set("agent", "oslo.rootwrap guide, daemon mode; devstack", daemon)
    # report interval, and the timeout of a report: late reports are retried and add to the server's load
    if ctx.lab.patience > 1:
        conf.set("agent", "labctl: emulated machines; neutron configuration, default 30", {"report_interval": 60})
    elif not ctx.lab.own_kernel:
        # the server ignores what an agent reports before it runs (agents_db.py, START_TIME), and containers restart
        # with every snapshot. Not in VMs: it is also the timeout of a report (agent/rpc.py), which emulated ones
        # exceed, and late reports take all of the server's time
        conf.set("agent", "neutron configuration: seconds between two reports", {"report_interval": 5})
    if ctx.release.linuxbridge_experimental and ctx.lab.mechanism is Mechanism.LINUXBRIDGE:
        conf.set("experimental", "neutron source: B35", {"linuxbridge": True})
    if server:
        notifications(ctx, conf, "neutron")
        workers = ctx.lab.workers
        if (largest := ml2.largest_packet(ctx)) != MTU:
            conf.set("DEFAULT", ml2.PACKETS, {"global_physnet_mtu": largest})
        if ctx.release.neutron_allow_overlapping_ips:
            conf.set("DEFAULT", GUIDE, {"allow_overlapping_ips": True})
        conf.set(
            "DEFAULT",
            GUIDE,
            {"notify_nova_on_port_status_changes": True, "notify_nova_on_port_data_changes": True},
        )
        conf.set(
            "DEFAULT",
            "topology: options.workers",
            {"api_workers": workers, "rpc_workers": workers, "rpc_state_report_workers": 0},
        )
        stretch(ctx, conf, "DEFAULT", {"agent_down_time": 75}, "neutron")
        conf.set("database", GUIDE, {"connection": ctx.database_url("neutron", "neutron")})
        conf.set("nova", GUIDE, password_auth(ctx, "nova"))
    return conf.file()


def l2_agent(ctx: Context, node: NodeSpec) -> File:
    """The L2 agent's own file: its tunnel address and its interface in the provider network."""
    wires = ctx.lab.wires(node)
    tunnel = str(ctx.lab.address(node, NetworkRole.OVERLAY))
    if ctx.lab.mechanism is Mechanism.LINUXBRIDGE:
        conf = Ini("/etc/neutron/plugins/ml2/linuxbridge_agent.ini", group="neutron")
        mapping = ",".join(f"{physical}:{card.name}" for physical, card in wires)
        conf.set("linux_bridge", GUIDE, {"physical_interface_mappings": mapping})
        conf.set("vxlan", GUIDE, {"enable_vxlan": True, "local_ip": tunnel, "l2_population": True})
        driver = "neutron.agent.linux.iptables_firewall.IptablesFirewallDriver"
        conf.set("securitygroup", GUIDE, {"enable_security_group": True, "firewall_driver": driver})
        return conf.file()
    conf = Ini("/etc/neutron/plugins/ml2/openvswitch_agent.ini", group="neutron")
    if openvswitch.tunnels(ctx):
        conf.set("ovs", OVS, {"local_ip": tunnel})
    if ctx.lab.userspace_datapath:
        # the agent makes each of its bridges so, also those that are there
        conf.set("ovs", openvswitch.USERSPACE, {"datapath_type": openvswitch.datapath(ctx)})
    if wires:
        conf.set("ovs", OVS, {"bridge_mappings": openvswitch.mappings(wires)})
    if openvswitch.tunnels(ctx):
        conf.set("agent", OVS, {"tunnel_types": "vxlan", "l2_population": True})
    conf.set("securitygroup", OVS, {"enable_security_group": True, "firewall_driver": "openvswitch"})
    return conf.file()


def l3_agent(ctx: Context) -> File:
    """l3_agent.ini."""
    conf = Ini("/etc/neutron/l3_agent.ini", group="neutron")
    driver = ctx.release.l3_interface_drivers[ctx.lab.mechanism.value]
    conf.set("DEFAULT", GUIDE, {"interface_driver": driver})
    _veth(ctx, conf)
    if ctx.release.external_network_bridge_empty:
        conf.set("DEFAULT", "troubleshooting B44", {"external_network_bridge": ""})
    return conf.file()


def dhcp_agent(ctx: Context) -> File:
    """dhcp_agent.ini."""
    conf = Ini("/etc/neutron/dhcp_agent.ini", group="neutron")
    conf.set(
        "DEFAULT",
        GUIDE,
        {
            "interface_driver": ctx.release.l3_interface_drivers[ctx.lab.mechanism.value],
            "dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq",
            "enable_isolated_metadata": True,
        },
    )
    _veth(ctx, conf)
    return conf.file()


def _veth(ctx: Context, conf: Ini) -> None:
    """Ports of agents outlive a restart of Open vSwitch, whose own ports in namespaces are left dead by it."""
    if ctx.lab.userspace_datapath:
        source = "neutron configuration, ovs_use_veth; docs/platform.md"
        conf.set("DEFAULT", source, {"ovs_use_veth": True})


def _nova_metadata(ctx: Context) -> dict[str, str]:
    """Where nova answers for metadata, and the secret that it asks for."""
    return {
        ctx.release.neutron_metadata_host_key: ctx.host(Component.NOVA_CONTROLLER),
        "metadata_proxy_shared_secret": mark("METADATA_SECRET"),
    }


def metadata_agent(ctx: Context) -> File:
    """metadata_agent.ini."""
    conf = Ini("/etc/neutron/metadata_agent.ini", group="neutron")
    conf.set("DEFAULT", GUIDE, _nova_metadata(ctx))
    conf.set("DEFAULT", "topology: options.workers", {"metadata_workers": ctx.lab.workers})
    return conf.file()


def _bridge_filtering() -> Command:
    """Security groups see bridged packets only through br_netfilter (B38)."""
    names = " ".join(f"net.bridge.bridge-nf-call-{t}=1" for t in ("iptables", "ip6tables"))
    return Command(
        "bridged packets pass the packet filter",
        f"modprobe br_netfilter 2>/dev/null; sysctl -q -w {names}",
        unless='[ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables)" = 1 ]',
        source="guide: neutron install, kernel bridge filters; B38",
    )


#: ebtables' nft back end refuses to delete a rule with --among-src by its text ("RULE_DELETE failed"), which
#: is what the linuxbridge agent does each time a plugged port is updated; it then retries forever and no
#: further port comes up. Deleting the same rule by number works.
EBTABLES = """#!/bin/sh
# Made by labctl: ebtables-nft that can delete rules with --among-src (docs/platform.md).
case " $* " in
*" -D "*" --among-src "*) ;;
*) exec /usr/sbin/ebtables-nft "$@" ;;
esac
table=filter
while [ $# -gt 0 ]; do
    case $1 in
    -t)
        table=$2
        shift 2
        ;;
    -D)
        chain=$2
        shift 2
        break
        ;;
    *) shift ;;
    esac
done
number=$(/usr/sbin/ebtables-nft -t "$table" -L "$chain" --Ln | awk -v rule="$*" '
    { number = $1; sub(/^[0-9]+[.]? +/, ""); sub(/ +$/, ""); if ($0 == rule) { print number + 0; exit } }')
[ -n "$number" ] || exit 0 # gone already
exec /usr/sbin/ebtables-nft -t "$table" --concurrent -D "$chain" "$number"
"""


def _ebtables(link: str) -> tuple[Operation, ...]:
    """The legacy back end, as in the linuxbridge guide, or a fixed nft one where the kernel lacks it."""
    mended = "/usr/sbin/ebtables-labctl"
    choose = f"if ebtables-legacy -t nat -L >/dev/null 2>&1; then t=/usr/sbin/ebtables-legacy; else t={mended}; fi; "
    source = "guide: linuxbridge agent, ebtables back end; facts 6.5"
    return (
        File(mended, EBTABLES, mode="0755", source=source),
        Command(
            "ebtables can delete what neutron adds",
            choose + f'ln -sfn "$t" {link}',
            unless=choose + f'[ "$(readlink {link})" = "$t" ]',
            source=source,
        ),
    )


def _agents(ctx: Context) -> tuple[tuple[Component, str], ...]:
    """The agents that a lab without OVN has on its nodes."""
    return (
        (Component.NEUTRON_L2, L2_AGENT[ctx.lab.mechanism]),
        (Component.NEUTRON_L3, "neutron-l3-agent"),
        (Component.NEUTRON_DHCP, "neutron-dhcp-agent"),
        (Component.NEUTRON_METADATA, "neutron-metadata-agent"),
    )


def _layer2(ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
    """What joins a node's guests and routers to their networks."""
    match ctx.lab.mechanism:
        case Mechanism.OVN:
            metadata = (ovn.metadata_agent(ctx, _nova_metadata(ctx)),) if ovn.has_metadata(node) else ()
            return (*openvswitch.prepare(ctx, node), *ovn.chassis(ctx, node), *metadata)
        case Mechanism.OPENVSWITCH:
            return (l2_agent(ctx, node), *openvswitch.prepare(ctx, node))
    link = ctx.base.paths.get("ebtables-link")
    return (l2_agent(ctx, node), _bridge_filtering(), *(_ebtables(link) if link else ()))


class Neutron(Chapter):
    name = "neutron"
    components = COMPONENTS
    words = {
        "en": (
            "Networks: neutron",
            "Networks of projects over VXLAN, routers, DHCP, metadata, and a flat network to the outside.",
        ),
        "ko": (
            "네트워크: neutron",
            "VXLAN 위의 프로젝트 네트워크, 라우터, DHCP, 메타데이터, 외부로 나가는 flat 네트워크.",
        ),
    }
    ports = {Component.NEUTRON_SERVER: ("9696/tcp",)}
    logs = ("neutron", "openvswitch", "ovn")
    tempest = True
    status_on = Component.NEUTRON_SERVER

    def packages(self, ctx: Context, node: NodeSpec) -> tuple[str, ...]:
        names = super().packages(ctx, node)
        if node.has(Component.NEUTRON_L2):
            names += ctx.base.l2_packages[ctx.lab.mechanism.value]
        if ctx.lab.mechanism is not Mechanism.OVN:
            return names
        agents = {name for component in AGENTS for name in ctx.base.packages[component]}
        return tuple(name for name in names if name not in agents)

    def databases(self, ctx: Context) -> tuple[Database, ...]:
        return (Database("neutron", "neutron", mark("NEUTRON_DBPASS")),)

    def identity(self, ctx: Context) -> tuple[ApiOperation, ...]:
        url = f"http://{ctx.host(Component.NEUTRON_SERVER)}:9696"
        return (
            *service_account(ctx, "neutron"),
            CatalogEntry("neutron", "network", "OpenStack Networking", url, ctx.lab.region),
        )

    def configure(self, ctx: Context, node: NodeSpec) -> tuple[Operation, ...]:
        if not node.has(*COMPONENTS):
            return ()
        made: list[Operation] = [
            ctx.once(neutron_conf, node.has(Component.NEUTRON_SERVER)),
            Directory("/var/lib/neutron/tmp", "neutron", "neutron", "0755"),
        ]
        mechanism = ctx.lab.mechanism
        if node.has(Component.NEUTRON_SERVER) or (node.has(Component.NEUTRON_L2) and mechanism is not Mechanism.OVN):
            made.append(ctx.once(ml2.conf))
        if node.has(Component.NEUTRON_SERVER):
            made += processes(ctx, "neutron-server")
            if mechanism is Mechanism.OVN:
                made += ovn.central(ctx)
            if "plugin-ini" in ctx.base.paths:
                made.append(Link(ctx.base.paths["plugin-ini"], "/etc/neutron/plugins/ml2/ml2_conf.ini"))
        if node.has(Component.NEUTRON_L2):
            made += _layer2(ctx, node)
        if mechanism is Mechanism.OVN:
            return tuple(made)
        if node.has(Component.NEUTRON_L3):
            made.append(l3_agent(ctx))
        if node.has(Component.NEUTRON_DHCP):
            made.append(dhcp_agent(ctx))
        if node.has(Component.NEUTRON_METADATA):
            made.append(metadata_agent(ctx))
        return tuple(made)

    def populate(self, ctx: Context) -> tuple[tuple[str, Populate], ...]:
        files = "--config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini"
        upgraded = fills("neutron db upgrade", f"{files} upgrade head", "neutron")
        return ((ctx.host(Component.NEUTRON_SERVER), tables(ctx, "neutron", "neutron-db-manage", upgraded)),)

    def daemons(self, ctx: Context, node: NodeSpec) -> tuple[Daemon, ...]:
        daemons: list[Daemon] = []
        if node.has(Component.NEUTRON_SERVER):
            answers = (http_ready("neutron", "http://127.0.0.1:9696/"),)
            # without agents there is nobody to serve by messages
            server = "neutron-api" if ctx.lab.mechanism is Mechanism.OVN else "neutron-server"
            daemons.append(Daemon(server, answers))
        if node.has(Component.NEUTRON_L2) and ctx.lab.mechanism is not Mechanism.LINUXBRIDGE:
            daemons.append(Daemon("openvswitch", order=0))
        if ctx.lab.mechanism is Mechanism.OVN:
            return (*daemons, *ovn.daemons(ctx, node))
        for component, daemon in _agents(ctx):
            if node.has(component):
                daemons.append(Daemon(daemon, order=2, stage="compute"))
        return tuple(daemons)

    def verify(self, ctx: Context) -> tuple[ApiOperation, ...]:
        if ctx.lab.mechanism is Mechanism.OVN:
            wanted = ovn.agents(ctx)
        else:
            wanted = [(binary, n.name) for component, binary in _agents(ctx) for n in ctx.lab.running(component)]
        answers = CatalogAnswers(ctx.lab.region, ("network",))
        return (answers, AgentsAlive(tuple(wanted))) if wanted else (answers,)

    def checks(self, ctx: Context) -> tuple[Check, ...]:
        agents = ctx.lab.has(Component.NEUTRON_L2, Component.NEUTRON_L3, Component.NEUTRON_DHCP)
        if not agents or not ctx.release.client_networks:
            return ()
        return (Check(ctx.identity_host, "openstack network agent list"),)
