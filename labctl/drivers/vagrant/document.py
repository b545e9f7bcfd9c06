"""A lab as ``lab.json``, from which ``vagrant/Vagrantfile`` creates its machines. Pure.

Sizes are in MiB, times in seconds; unknown or unset values are empty. The same document serves plain Vagrant users
and labctl's own driver, which adds what only it has: keys, consoles, a libvirt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labctl import shipped
from labctl.drivers import VAGRANT_ADDRESS
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
#: The first bytes of the MAC address of Vagrant's own card: locally administered, and "va".
MAC_PREFIX = "02:76:61"
#: vagrant-libvirt's name of its management network.
VAGRANT_NETWORK = "vagrant-libvirt"
#: VirtualBox has eight adapters; Vagrant uses the first.
MAX_CARDS = 7
BOOT, HALT, CONNECT = 300, 60, 15

#: The distributions' official boxes, for bases that labctl builds none for; the registry has the checksums.
FOREIGN = {"centos7": Box("centos/7", "2004.01", own=False), "centos8": Box("centos/8", "2011.0", own=False)}

File = tuple[bytes, int]


@dataclass(frozen=True)
class Libvirt:
    """Which libvirt the provider uses, and how; empty values leave the choice to the user."""

    uri: str = ""
    driver: str = ""
    network: str = VAGRANT_NETWORK
    address: str = VAGRANT_ADDRESS


@dataclass(frozen=True)
class Settings:
    """Settings of machines that are not in a lab spec.

    :param files: node -> path -> content and mode; replaces the files that every node of a rendered lab gets.
    :param guest: Vagrant's name for the guest system; detected by Vagrant when empty.
    :param consoles: node -> file for its console output.
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
    """The prefix of node names in names of domains and VirtualBox machines."""
    return f"labctl.{name}."


def vagrant_mac(name: str, node: str) -> str:
    """MAC address of the card by which Vagrant reaches a node; its first bytes differ from those of lab cards."""
    digest = hashlib.sha256(f"{name}/{node}".encode()).hexdigest()
    return ":".join([MAC_PREFIX, digest[:2], digest[2:4], digest[4:6]])


def provider_name(lab_name: str, name: str) -> str:
    """The name of a lab's network in libvirt and VirtualBox."""
    return f"{lab_name}-{name}"


def render(spec: LabSpec, settings: Settings) -> str:
    """The text of ``lab.json``.

    :raises LabError: a node has more cards than VirtualBox has adapters.
    """
    for node in spec.nodes.values():
        if len(node.interfaces) > MAX_CARDS:
            raise LabError(f"{node.name} has {len(node.interfaces)} cards; Vagrant machines have at most {MAX_CARDS}")
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
        "networks": [_network(spec, each) for each in spec.segments],
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
        "mtu": each.mtu,
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
        # guests' frames have their own MAC addresses (docs/facts/troubleshooting.md, A28)
        "promiscuous": spec.networks[card.network].role is NetworkRole.PROVIDER,
        "port": network.port(card),
    }


def public_files(spec: LabSpec, node: str, *, own: bool) -> dict[str, File]:
    """Files that every node of a rendered lab gets: the hosts file, and in labctl's own boxes name and addresses.

    They contain no secrets, and the default route stays Vagrant's.
    """
    files: dict[str, File] = {"etc/hosts": (spec.hosts_file.encode(), 0o644)}
    if own:
        files["etc/hostname"] = (f"{node}\n".encode(), 0o644)
        files["etc/labctl/network"] = (seed.cards(spec, node, way_out=False).encode(), 0o644)
    return files
