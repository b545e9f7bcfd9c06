"""Nodes that join or leave a running lab: each function turns a spec into another spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from itertools import chain
from typing import Any

from labctl.components import COMPONENTS
from labctl.errors import LabError
from labctl.topology.model import MAX_HOST_NAME, NAME, Join, NetworkRole
from labctl.topology.proxy import SECRET
from labctl.topology.resolve import Macs
from labctl.topology.rules_component import joining_obstacle
from labctl.topology.rules_network import not_a_host
from labctl.topology.spec import InterfaceSpec, LabSpec, NodeSpec


def joined(spec: LabSpec, name: str) -> LabSpec:
    """The lab with a node that its topology declares as ``join: later``.

    :raises LabError: the topology declares no such node, or the node has already joined.
    """
    if name in spec.nodes:
        raise LabError(f"{spec.name} already has the node '{name}'", f"labctl node list {spec.name}")
    if name not in spec.later:
        waiting = ", ".join(spec.later) or "none"
        raise LabError(
            f"the topology of {spec.name} has no node '{name}' that joins later; it has: {waiting}",
            f"labctl node list {spec.name}; labctl node add {spec.name} {name} --like NODE copies one of them",
        )
    later = {key: node for key, node in spec.later.items() if key != name}
    return spec.model_copy(update={"nodes": {**spec.nodes, name: spec.later[name]}, "later": later})


def joined_like(spec: LabSpec, name: str, like: str, addresses: Mapping[str, IPv4Address]) -> LabSpec:
    """The lab with a copy of another node, with its own name and addresses.

    :param addresses: network to address; default: the next free one after the copied node's.
    :raises LabError: the name or an address is not usable, or the other node cannot be copied.
    """
    if not re.fullmatch(NAME, name) or len(name) > MAX_HOST_NAME or name == "localhost":
        raise LabError(
            f"{name!r} is not a node name",
            f"use up to {MAX_HOST_NAME} lower-case letters, digits and hyphens, beginning with a letter",
        )
    if name in spec.nodes:
        raise LabError(f"{spec.name} already has the node '{name}'", f"labctl node list {spec.name}")
    if name in spec.later:
        raise LabError(f"the topology already defines the node '{name}'", f"labctl node add {spec.name} {name}")
    known = {**spec.nodes, **spec.later}
    if like not in known:
        raise LabError(f"{spec.name} has no node '{like}'; it has {', '.join(known)}")
    pattern = known[like]
    for component in pattern.runs:
        reason = joining_obstacle(component)
        if reason is None and COMPONENTS[component].once:
            reason = "a lab has only one"
        if reason:
            raise LabError(f"cannot copy '{like}': {component} cannot join a running lab: {reason}")
    used = (each for node in known.values() for card in node.interfaces for each in card.cards)
    macs = Macs(spec.name, (card.mac for card in used))
    free = _Free(spec, pattern)
    node = pattern.model_copy(
        update={
            "name": name,
            "interfaces": tuple(
                macs.given(name, card.model_copy(update={"address": address}))
                for card, address in free.addresses(addresses)
            ),
            "join": Join.LATER,
            "like": like,
        }
    )
    return spec.model_copy(update={"nodes": {**spec.nodes, name: node}})


def left(spec: LabSpec, name: str) -> LabSpec:
    """The lab without a node that had joined it; a node of the topology can join again.

    :raises LabError: there is no such node, or it is part of the lab from the start.
    """
    if name not in spec.nodes:
        hint = f"labctl node list {spec.name}" if name in spec.later else ""
        raise LabError(f"{spec.name} has no node '{name}'; it has {', '.join(spec.nodes)}", hint)
    node = spec.nodes[name]
    if node.join is Join.START:
        able = ", ".join(n.name for n in spec.nodes.values() if n.join is Join.LATER) or "none"
        raise LabError(
            f"'{name}' is part of {spec.name} from the start; only nodes that joined later can be removed: {able}",
            f"labctl down {spec.name} removes the whole lab",
        )
    nodes = {key: other for key, other in spec.nodes.items() if key != name}
    later = spec.later if node.like else {**spec.later, name: node}
    return spec.model_copy(update={"nodes": nodes, "later": later})


def kept(spec: LabSpec, before: LabSpec) -> LabSpec:
    """A newly resolved lab with the nodes that have joined since, as the topology now defines them."""
    nodes, later = dict(spec.nodes), dict(spec.later)
    for name, node in before.nodes.items():
        if node.join is Join.LATER:
            nodes[name] = later.pop(name) if name in later else nodes.get(name, node)
    update: dict[str, Any] = {"nodes": nodes, "later": later, "sources": {**before.sources, **spec.sources}}
    if not spec.proxy:  # a command without $LABCTL_PROXY
        given = {name: value for name, value in before.passwords.items() if name == SECRET}
        update |= {"proxy": before.proxy, "passwords": {**spec.passwords, **given}}
    return spec.model_copy(update=update)


class _Free:
    """Addresses for a copy of a node: the given ones, else free ones."""

    def __init__(self, spec: LabSpec, pattern: NodeSpec) -> None:
        self._spec, self._pattern = spec, pattern
        cards = ((n.name, c) for n in (*spec.nodes.values(), *spec.later.values()) for c in n.interfaces)
        self._owners = {(card.network, card.address): f"the address of node '{name}'" for name, card in cards}
        for network in spec.networks.values():
            self._owners[network.name, network.gateway] = f"the gateway of '{network.name}'"

    def addresses(self, given: Mapping[str, IPv4Address]) -> list[tuple[InterfaceSpec, IPv4Address | None]]:
        """The interfaces of the copied node, each with the address of its copy."""
        cards = {card.network: card for card in self._pattern.interfaces}
        for network, address in given.items():
            if network not in cards:
                raise LabError(f"'{self._pattern.name}' has no interface in '{network}', only in {', '.join(cards)}")
            if self._spec.networks[network].role is NetworkRole.PROVIDER:
                raise LabError(f"neutron bridges the interface in '{network}', so it has no address")
            self._check(network, address)
        return [(card, given.get(network) or self._next(card)) for network, card in cards.items()]

    def _check(self, network: str, address: IPv4Address) -> None:
        if reason := not_a_host(address, self._spec.networks[network].cidr):
            raise LabError(f"{address} {reason}, the network '{network}'; use a host address")
        if owner := self._owners.get((network, address)):
            raise LabError(f"{address} is already {owner}")

    def _next(self, card: InterfaceSpec) -> IPv4Address | None:
        if card.address is None:
            return None
        cidr = self._spec.networks[card.network].cidr
        bottom, own, top = int(cidr.network_address), int(card.address), int(cidr.broadcast_address)
        for number in chain(range(own + 1, top), range(bottom + 1, own)):
            if (card.network, IPv4Address(number)) not in self._owners:
                return IPv4Address(number)
        raise LabError(f"the network '{card.network}' has no free address")
