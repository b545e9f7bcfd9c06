"""A node's seed: names, keys, cards. Pure except for the random machine id."""

from __future__ import annotations

import json
import os

from labctl.images import vm
from labctl.records.lab import Lab
from labctl.topology.defaults import BOND_MODE, BOND_MONITOR, MTU
from labctl.topology.spec import LabSpec


def mark(lab: Lab, node: str) -> str:
    """The mark that a disk keeps of its lab and node."""
    return f"{lab.name} {lab.id} {node}\n"


def cards(spec: LabSpec, node: str, *, way_out: bool = True) -> str:
    """A node's cards as lines for ``ip -batch``: addresses, and the default route through the lab's gateway."""
    lines = ["link set lo up"]
    for card in spec.nodes[node].interfaces:
        if card.members:
            how = f"mode {BOND_MODE} miimon {BOND_MONITOR}"
            lines.append(f"link add name {card.name} address {card.mac} type bond {how}")
            for each in card.members:
                lines += [f"link set {each.name} down", f"link set {each.name} master {card.name}"]
        if (mtu := spec.networks[card.network].mtu) != MTU:
            lines.append(f"link set {card.name} mtu {mtu}")
        if card.address is not None:
            prefix = spec.networks[card.network].cidr.prefixlen
            lines.append(f"address replace {card.address}/{prefix} dev {card.name}")
        lines.append(f"link set {card.name} up")
    if way_out:
        lines.append(f"route replace default via {spec.management.gateway}")
    return "\n".join(lines) + "\n"


def initiator(lab: Lab, node: str) -> str:
    """A node's own iSCSI name, in the form of Debian's open-iscsi: the image's is the same for all nodes, and targets
    identify initiators by it. The part before the first colon must be a date and a reversed domain of two labels or
    more (RFC 3720, 3.2.6.3.1): LIO's rtslib refuses others with "WWN not valid as: iqn"."""
    return f"iqn.1993-08.org.debian:01:{lab.id}:{node}"


def files(lab: Lab, node: str) -> dict[str, tuple[bytes, int]]:
    """Files that only this node has: path -> content and mode."""
    return {
        "etc/hostname": (f"{node}\n".encode(), 0o644),
        "etc/hosts": (lab.spec.hosts_file.encode(), 0o644),
        "etc/machine-id": (os.urandom(16).hex().encode() + b"\n", 0o444),
        "etc/ssh/ssh_host_ed25519_key": (lab.host_private_key(node).encode(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (lab.host_key(node).encode(), 0o644),
        "root/.ssh/authorized_keys": (lab.public_key().encode(), 0o600),
        "etc/iscsi/initiatorname.iscsi": (f"InitiatorName={initiator(lab, node)}\n".encode(), 0o600),
        "etc/labctl/network": (cards(lab.spec, node).encode(), 0o644),
    }


def _user_data(lab: Lab, node: str) -> str:
    """cloud-init's user data with root's key and the pinned host key (JSON is YAML)."""
    wanted = {
        "hostname": node,
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": lab.host_private_key(node), "ed25519_public": lab.host_key(node)},
        "users": [{"name": "root", "ssh_authorized_keys": [lab.public_key().strip()]}],
    }
    return "#cloud-config\n" + json.dumps(wanted, indent=1) + "\n"


def _network_config(lab: Lab, node: str) -> str:
    """Netplan's version 2: each card by its MAC address, bonds of them by their names."""
    ethernets: dict[str, dict[str, object]] = {}
    bonds: dict[str, dict[str, object]] = {}
    for card in lab.spec.nodes[node].interfaces:
        network = lab.spec.networks[card.network]
        for each in card.cards:
            ethernets[each.name] = {"match": {"macaddress": each.mac}, "set-name": each.name, "dhcp4": False}
        entry = ethernets.get(card.name, {"dhcp4": False})
        if card.address is not None:
            entry["addresses"] = [f"{card.address}/{network.cidr.prefixlen}"]
        if network.mtu != MTU:
            entry["mtu"] = network.mtu
        if network.name == lab.spec.management.name:
            entry["gateway4"] = str(network.gateway)
        if card.members:
            entry |= {"interfaces": [each.name for each in card.members], "macaddress": card.mac}
            entry["parameters"] = {"mode": BOND_MODE, "mii-monitor-interval": BOND_MONITOR}
            bonds[card.name] = entry
    made: dict[str, object] = {"version": 2, "ethernets": ethernets}
    return json.dumps({**made, "bonds": bonds} if bonds else made, indent=1) + "\n"


def iso(lab: Lab, node: str) -> bytes:
    """The seed of a node: for labctl's own trees and for cloud-init."""
    meta = {"instance-id": f"{lab.id}-{node}", "local-hostname": node}
    return vm.seed(
        {
            "meta-data": (json.dumps(meta) + "\n").encode(),
            "user-data": _user_data(lab, node).encode(),
            "network-config": _network_config(lab, node).encode(),
            "mark": mark(lab, node).encode(),
            "node.tar": vm.node_archive(files(lab, node)),
        }
    )
