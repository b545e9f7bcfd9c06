"""A lab's network: one namespace that is its router, and bridges without host addresses.

The bridges are inside the namespace, so nothing of a lab appears in the host's interface list or routing table
(except one uplink where a network uses NAT), and several labs can use the same addresses at the same time.
Deleting the namespaces removes every bridge, cable and route.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, limits, lock, paths, process, tagging, uplink
from labctl.topology.model import Mechanism, NetworkRole
from labctl.topology.spec import CardSpec, InterfaceSpec, LabSpec, NodeSpec

NETNS = Path("/run/netns")
ETC = Path("/etc/netns")
_MARK = "# labctl home: "
#: Held while a lab takes its name: of two homes that want one at once, the second sees that it is taken.
_NAMES = Path("/run/labctl/names.lock")


def lab_namespace(name: str) -> str:
    """Name of a lab's own namespace."""
    return f"labctl.{name}"


def node_namespace(name: str, node: str) -> str:
    """Name of a container's namespace."""
    return f"labctl.{name}.{node}"


def _there(name: str) -> list[str]:
    """Existing namespaces with a lab's name, of any home."""
    own = lab_namespace(name)
    return sorted(p.name for p in NETNS.glob("labctl.*") if p.name == own or p.name.startswith(own + "."))


def namespaces(name: str) -> list[str]:
    """Existing namespaces of a lab of this home."""
    return [] if foreign(name) else _there(name)


def machines() -> list[str]:
    """The namespaces of all containers on this host, of every home."""
    return sorted(path.name for path in NETNS.glob("labctl.*.*"))


# --- ownership -------------------------------------------------------------------------------------


def _home(name: str) -> Path | None:
    """The labctl home in a lab network's mark; None without a mark."""
    try:
        text = (ETC / lab_namespace(name) / "resolv.conf").read_text()
    except OSError:
        return None
    return next((Path(line.removeprefix(_MARK)) for line in text.splitlines() if line.startswith(_MARK)), None)


def foreign(name: str) -> Path | None:
    """The other labctl home that owns a network with this lab's name, if any."""
    home = _home(name)
    return home if home not in (None, paths.home()) and _there(name) else None


def marked() -> list[str]:
    """The labs whose networks carry this home's mark."""
    found = [p.name.partition(".")[2] for p in ETC.glob("labctl.*")]
    return sorted(lab for lab in found if _home(lab) == paths.home())


def _claim(spec: LabSpec) -> None:
    """Mark a lab's network as this home's, before any of it is created.

    :raises LabError: a lab of another home has that name.
    """
    if other := foreign(spec.name):
        raise LabError(
            f"a lab named {spec.name} is already running from the labctl home {other}",
            f"choose another name: --name NAME; or LABCTL_HOME={other} labctl down {spec.name}",
        )
    etc = ETC / lab_namespace(spec.name)
    files.make_directories(etc)
    files.write_atomic(etc / "resolv.conf", f"# a lab resolves names from its hosts file only\n{_MARK}{paths.home()}\n")
    files.write_atomic(etc / "hosts", spec.hosts_file)


# --- creating --------------------------------------------------------------------------------------


def _ip_batch(namespace: str, lines: list[str]) -> None:
    process.run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n", timeout=30)


def bridge(spec: LabSpec, network: str) -> str:
    """Name of the bridge inside the lab's namespace that carries a network's frames."""
    carrier = spec.networks[network].carrier
    return f"br{list(spec.networks).index(carrier)}-{carrier}"[:15]


def gateway(spec: LabSpec, network: str) -> str:
    """Name of the device with the namespace's address in a network: its bridge, or one for its tag on that."""
    tag = spec.networks[network].vlan
    return bridge(spec, network) if tag is None else f"{bridge(spec, network).partition('-')[0]}.{tag}"


def create(spec: LabSpec) -> None:
    """Create the namespace with its bridges, gateways, names and packet filter; idempotent."""
    namespace = lab_namespace(spec.name)
    with lock.exclusive(_NAMES, f"makes the network of {spec.name}"):
        _claim(spec)
        new = not _complete(spec)
        if new:
            if (NETNS / namespace).exists():
                process.run(["ip", "netns", "delete", namespace])
            process.run(["ip", "netns", "add", namespace])
    if new:
        _lay(spec, namespace)
    inside(spec.name, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    if any(n.ipv6 for n in spec.networks.values()):
        inside(spec.name, ["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1"])
    if any(n.nat for n in spec.networks.values()):
        uplink.connect(spec.name, namespace, [n.cidr for n in spec.networks.values() if n.nat])


def own_mac(spec: LabSpec, network: str) -> str:
    """The MAC address of the namespace in a network, once :func:`pin` has given it; no node's card has its prefix."""
    tail = hashlib.sha256(f"{spec.name}/{network}".encode()).hexdigest()[:6]
    return f"52:54:01:{tail[:2]}:{tail[2:4]}:{tail[4:]}"


def pin(spec: LabSpec) -> None:
    """Give the namespace addresses that are known before: a bridge otherwise has that of one of its ports."""
    lines = [f"link set {bridge(spec, each.name)} address {own_mac(spec, each.name)}" for each in spec.segments]
    _ip_batch(lab_namespace(spec.name), lines)


#: What is done last in a lab's namespace.
_LAST = "link set lo up"


def _lay(spec: LabSpec, namespace: str) -> None:
    """Create the bridges, the devices for their tags, and the namespace's addresses and routes."""
    lines = []
    for network in spec.segments:
        device = bridge(spec, network.name)
        lines += [
            f"link add name {device} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            # set after it is made, as a bridge otherwise takes the smallest of its ports'
            f"link set {device} mtu {network.mtu} up",
        ]
    _ip_batch(namespace, lines)
    for name, network in spec.networks.items():
        if network.vlan is not None:
            tagging.attach(namespace, bridge(spec, name), gateway(spec, name), network.vlan, network.mtu)
    lines = []
    for name, network in spec.networks.items():
        lines.append(f"address add {network.gateway}/{network.cidr.prefixlen} dev {gateway(spec, name)}")
        if network.ipv6 is not None:
            address = f"{network.ipv6_gateway}/{network.ipv6.prefixlen}"
            lines.append(f"address add {address} dev {gateway(spec, name)} nodad")
    inner = spec.fixtures.internal_ipv6
    if inner and spec.providers and spec.providers[0].ipv6_router:
        lines.append(f"route add {inner} via {spec.providers[0].ipv6_router}")
    lines.append(_LAST)
    _ip_batch(namespace, lines)


def _complete(spec: LabSpec) -> bool:
    """False when there is no namespace, labctl was killed before all of it was there, or the lab has other networks."""
    namespace = lab_namespace(spec.name)
    if not (NETNS / namespace).exists():
        return False
    done = process.run(["ip", "-n", namespace, "-j", "-d", "link", "show"], check=False)
    found = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
    bridges = {link["ifname"] for link in found if link.get("linkinfo", {}).get("info_kind") == "bridge"}
    up = {link["ifname"] for link in found if "UP" in link["flags"]}
    return "lo" in up and bridges == {bridge(spec, network.name) for network in spec.segments}


def port(card: InterfaceSpec | CardSpec) -> str:
    """Name of the bridge's end of a card's cable."""
    return _port(card.mac)


def ports(card: InterfaceSpec) -> tuple[str, ...]:
    """Names of the bridge's ends of a card's cables: a bond has several."""
    return tuple(port(each) for each in card.cards)


def _port(mac: str) -> str:
    return "port" + mac.replace(":", "")[6:]


def attach_container(spec: LabSpec, node: NodeSpec) -> None:
    """Create a container's namespace with its cards, each plugged into its network's bridge; idempotent."""
    namespace = node_namespace(spec.name, node.name)
    if (NETNS / namespace).exists():
        if uplink.has_route(namespace):
            return
        detach_container(spec, node.name)  # incomplete: labctl was killed while creating it
    process.run(["ip", "netns", "add", namespace])
    outside, inner = [], ["link set lo up"]
    for card in node.interfaces:
        mtu = spec.networks[card.network].mtu
        outside += [
            f"link add name {port(card)} mtu {mtu} type veth "
            f"peer name {card.name} mtu {mtu} address {card.mac} netns {namespace}",
            f"link set {port(card)} master {bridge(spec, card.network)}",
            f"link set {port(card)} up",
            *_cut(spec, card),
        ]
        if card.address is not None:
            inner.append(f"address add {card.address}/{spec.networks[card.network].cidr.prefixlen} dev {card.name}")
        inner.append(f"link set {card.name} up")
    inner.append(f"route add default via {spec.management.gateway}")
    _ip_batch(lab_namespace(spec.name), outside)
    _ip_batch(namespace, inner)


def _cut(spec: LabSpec, card: InterfaceSpec) -> list[str]:
    """Let the kernel cut TCP's large packets at a cable into OVN's own datapath (docs/platform.md).

    OVN's gateways refuse packets longer than a network takes, and Open vSwitch's datapath takes one that is yet to be
    cut for such a packet: TCP from outside to a floating IP then stalls.
    """
    own = spec.userspace_datapath and spec.mechanism is Mechanism.OVN
    outside = spec.networks[card.network].role is NetworkRole.PROVIDER
    return [f"link set {port(card)} gso_max_segs 1"] if own and outside else []


def detach_container(spec: LabSpec, node: str) -> None:
    """Remove a container's namespace and cards, even if the node is not in the spec; idempotent."""
    outside, namespace = lab_namespace(spec.name), node_namespace(spec.name, node)
    if (NETNS / outside).exists():
        for cable in _cables(spec, node):  # the kernel removes the cables of a deleted namespace only a little later
            process.run(["ip", "-n", outside, "link", "delete", cable], check=False)
    if (NETNS / namespace).exists():
        process.run(["ip", "netns", "delete", namespace])


def _cables(spec: LabSpec, node: str) -> list[str]:
    """The bridge ends of a container's cables: from its spec, else from its existing cards."""
    if node in spec.nodes:
        return [port(card) for card in spec.nodes[node].interfaces]
    namespace = node_namespace(spec.name, node)
    if not (NETNS / namespace).exists():
        return []
    cards = json.loads(process.output(["ip", "-n", namespace, "-j", "link", "show", "type", "veth"]) or "[]")
    return [_port(card["address"]) for card in cards if "address" in card]


def entered(spec: LabSpec, node: str, pid: int) -> bool:
    """True if a process is in the network namespace of a node.

    :raises OSError: there is no such process, or no such namespace.
    """
    return (NETNS / node_namespace(spec.name, node)).stat().st_ino == Path(f"/proc/{pid}/ns/net").stat().st_ino


def severed(spec: LabSpec, node: NodeSpec, pid: int) -> str:
    """What a running container has lost of its network, empty if nothing; ``pid`` is one of its processes."""
    if not _complete(spec):
        return "the lab's network is gone"
    try:
        if not entered(spec, node.name, pid):
            return "its network namespace was replaced"
    except OSError:
        return "its network namespace is gone"
    links = process.run(["ip", "-n", lab_namespace(spec.name), "-br", "link"], check=False).stdout
    there = {line.split()[0].partition("@")[0] for line in links.splitlines()}
    return "" if {port(card) for card in node.interfaces} <= there else "its cables are gone"


def inside(name: str, command: list[str], *, stdin: str | None = None, timeout: float = 30) -> str:
    """Run a command in a lab's namespace and return its output."""
    done = process.run(["ip", "netns", "exec", lab_namespace(name), *command], stdin=stdin, timeout=timeout)
    return done.stdout


def delete(name: str) -> list[str]:
    """Remove a lab's network, its mark last; returns what could not be removed."""
    if foreign(name):
        return []
    left: list[str] = []
    for namespace in reversed(namespaces(name)):
        try:
            process.run(["ip", "netns", "delete", namespace])
        except LabError as error:
            left.append(f"namespace {namespace}: {error.message}")
    uplink.remove(name)
    limits.restore(len(machines()))
    if not left:
        files.remove(ETC / lab_namespace(name), within=ETC)
    return left
