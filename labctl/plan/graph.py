"""A lab as a graph: networks, nodes, and the cards between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from labctl.topology.spec import LabSpec, NetworkSpec, NodeSpec
from labctl.topology.units import show_size


@dataclass(frozen=True)
class Network:
    """A network: what it is for, its prefixes, and its VLAN tag on another network's wire, if any."""

    name: str
    role: str
    prefixes: tuple[str, ...]
    vlan: str = ""

    @property
    def title(self) -> str:
        """Its name, prefixes and tag in one line."""
        return " ".join(word for word in (self.name, ", ".join(self.prefixes), self.vlan) if word)


@dataclass(frozen=True)
class Card:
    """A card of a node in a network; a bond names its cards."""

    name: str
    network: str
    address: str
    mac: str


@dataclass(frozen=True)
class Node:
    """A machine: what it runs, its size in words, and its cards."""

    name: str
    runs: tuple[str, ...]
    size: str
    cards: tuple[Card, ...]
    later: bool = False


@dataclass(frozen=True)
class Graph:
    """A lab, in the order of its topology."""

    lab: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]


def graph(spec: LabSpec) -> Graph:
    """The graph of a lab, with the nodes that join later."""
    nodes = [*(_node(node) for node in spec.nodes.values()), *(_node(node, later=True) for node in spec.later.values())]
    return Graph(spec.name, tuple(_network(network) for network in spec.networks.values()), tuple(nodes))


def _network(network: NetworkSpec) -> Network:
    prefixes = (str(network.cidr), *([str(network.ipv6)] if network.ipv6 else []))
    vlan = f"VLAN {network.vlan} on {network.wire}" if network.vlan is not None else ""
    return Network(network.name, network.role.value, prefixes, vlan)


def _node(node: NodeSpec, later: bool = False) -> Node:
    cards = tuple(
        Card(
            f"{card.name} ({', '.join(member.name for member in card.members)})" if card.members else card.name,
            card.network,
            str(card.address or ""),
            str(card.mac),
        )
        for card in node.interfaces
    )
    size = f"{node.cpus} CPUs, {show_size(node.memory)}"
    return Node(node.name, tuple(component.value for component in node.runs), size, cards, later)


def data(drawn: Graph) -> dict[str, Any]:
    """The graph as plain data."""
    return asdict(drawn)


def mermaid(drawn: Graph) -> str:
    """The graph in Mermaid's language, which GitHub and GitLab draw in their pages."""
    networks = {network.name: f"network{number}" for number, network in enumerate(drawn.networks)}
    lines = [f"---\ntitle: {drawn.lab}\n---", "flowchart TB"]
    lines += [f'    {networks[network.name]}(["{network.title}"])' for network in drawn.networks]
    for number, node in enumerate(drawn.nodes):
        later = "<br/>joins later" if node.later else ""
        lines.append(f'    node{number}["<b>{node.name}</b><br/>{node.size}{later}<br/>{"<br/>".join(node.runs)}"]')
        lines += [
            f'    {networks[card.network]} ---|"{f"{card.name} {card.address}".strip()}"| node{number}'
            for card in node.cards
        ]
    lines += [f"    style node{number} stroke-dasharray:4" for number, node in enumerate(drawn.nodes) if node.later]
    return "\n".join(lines) + "\n"
