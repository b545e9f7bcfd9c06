"""A lab as ``lab.json``, from which ``vagrant/Vagrantfile`` makes its machines. Pure.

Sizes are in MiB, times in seconds; what is not known or not meant is empty. The same document serves somebody who
knows nothing but Vagrant, and labctl's own driver, which adds what only it has: keys, consoles, a libvirt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labctl import shipped
from labctl.drivers.libvirt import seed
from labctl.errors import LabError
from labctl.host import network
from labctl.images.box import Box
from labctl.topology.model import NetworkRole
from labctl.topology.spec import InterfaceSpec, LabSpec, NetworkSpec, NodeSpec

SCHEMA = 1
FILE = "lab.json"
VAGRANTFILE = shipped("vagrant") / "Vagrantfile"
MIB = 2**20
#: The first bytes of the address of Vagrant's own card: locally administered, and "va".
MAC_PREFIX = "02:76:61"
#: vagrant-libvirt's own network, from which it reaches the machines.
VAGRANT_NETWORK, VAGRANT_ADDRESS = "vagrant-libvirt", "192.168.121.0/24"
#: VirtualBox has eight adapters, of which Vagrant takes the first.
MAX_CARDS = 7
BOOT, HALT, CONNECT = 300, 60, 15

#: Boxes of the distributions' own makers, for the bases that labctl makes none of; its registry has the checksums.
FOREIGN = {"centos7": Box("centos/7", "2004.01", own=False), "centos8": Box("centos/8", "2011.0", own=False)}

File = tuple[bytes, int]


@dataclass(frozen=True)
class Libvirt:
    """Which libvirt the provider uses, and how: empty values are the user's own choice."""

    uri: str = ""
    driver: str = ""
    network: str = VAGRANT_NETWORK
    address: str = VAGRANT_ADDRESS


@dataclass(frozen=True)
class Settings:
    """What a lab spec does not say of its machines.

    :param files: node -> path -> content and mode, instead of what every node of a rendered lab gets.
    :param guest: Vagrant's name for the system in the box; found out by Vagrant when empty.
    :param consoles: node -> the file for its console's output.
    """

    box: Box
    libvirt: Libvirt = Libvirt()
    guest: str = ""
    boot_timeout: int = BOOT
    halt_timeout: int = HALT
    connect_timeout: int = CONNECT
    files: Mapping[str, Mapping[str, File]] = field(default_factory=dict)
    consoles: Mapping[str, Path] = field(default_factory=dict)


def prefix(name: str) -> str:
    """What stands before the nodes' names in the names of domains and of VirtualBox's machines."""
    return f"labctl.{name}."


def vagrant_mac(name: str, node: str) -> str:
    """The address of the card by which Vagrant reaches a node; its first bytes tell it from the lab's own cards."""
    digest = hashlib.sha256(f"{name}/{node}".encode()).hexdigest()
    return ":".join([MAC_PREFIX, digest[:2], digest[2:4], digest[4:6]])


def provider_name(lab_name: str, name: str) -> str:
    """What a lab's network is called with libvirt and VirtualBox."""
    return f"{lab_name}-{name}"


def render(spec: LabSpec, settings: Settings) -> str:
    """The text of ``lab.json``.

    :raises LabError: a node has more cards than VirtualBox has adapters.
    """
    for node in spec.nodes.values():
        if len(node.interfaces) > MAX_CARDS:
            raise LabError(f"{node.name} has {len(node.interfaces)} cards; Vagrant's machines have up to {MAX_CARDS}")
    content = {
        "schema": SCHEMA,
        "lab": spec.name,
        "release": spec.release,
        "base": spec.base,
        "prefix": prefix(spec.name),
        "box": asdict(settings.box),
        "guest": settings.guest,
        "boot_timeout": settings.boot_timeout,
        "halt_timeout": settings.halt_timeout,
        "connect_timeout": settings.connect_timeout,
        "libvirt": asdict(settings.libvirt),
        "networks": [_network(spec, each) for each in spec.networks.values()],
        "nodes": [_node(spec, each, settings) for each in spec.nodes.values()],
    }
    return json.dumps(content, indent=1) + "\n"


def _network(spec: LabSpec, each: NetworkSpec) -> dict[str, Any]:
    return {
        "name": each.name,
        "role": each.role.value,
        "cidr": str(each.cidr),
        "netmask": str(each.cidr.netmask),
        "gateway": str(each.gateway),
        "nat": each.nat,
        "provider_name": provider_name(spec.name, each.name),
    }


def _node(spec: LabSpec, node: NodeSpec, settings: Settings) -> dict[str, Any]:
    files = settings.files.get(node.name) or public_files(spec, node.name, own=settings.box.own)
    return {
        "name": node.name,
        "runs": [component.value for component in node.runs],
        "cpus": node.cpus,
        "memory": node.memory // MIB,
        "disk": node.disk // MIB,
        "disks": [{"name": disk.name, "size": disk.size // MIB} for disk in node.disks],
        "cards": [_card(spec, card) for card in node.interfaces],
        "mac": vagrant_mac(spec.name, node.name),
        "console": str(settings.consoles.get(node.name, "")),
        "files": {
            f"/{path}": {"content": content.decode(), "mode": f"{mode:04o}"}
            for path, (content, mode) in sorted(files.items())
        },
    }


def _card(spec: LabSpec, card: InterfaceSpec) -> dict[str, Any]:
    return {
        "name": card.name,
        "network": card.network,
        "address": str(card.address or ""),
        "mac": card.mac,
        # guests' frames come and go with addresses of their own (docs/facts/troubleshooting.md, A28)
        "promiscuous": spec.networks[card.network].role is NetworkRole.PROVIDER,
        "port": network.port(card),
    }


def public_files(spec: LabSpec, node: str, *, own: bool) -> dict[str, File]:
    """What every node of a rendered lab gets: the lab's names, and in labctl's own box name and addresses.

    Nothing of it is secret, and the way out stays Vagrant's.
    """
    files: dict[str, File] = {"etc/hosts": (spec.hosts_file().encode(), 0o644)}
    if own:
        files["etc/hostname"] = (f"{node}\n".encode(), 0o644)
        files["etc/labctl/network"] = (seed.cards(spec, node, way_out=False).encode(), 0o644)
    return files
