"""The cards of virtual machines: tap devices that QEMU holds, moved into the lab's namespace.

libvirt creates a tap in its own namespace, the host's. The machine is still paused then, so it has sent nothing
when the tap is moved into the lab's namespace, where the bridges are. The tap disappears with QEMU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as tree

from labctl.drivers.libvirt.connection import asked, library, translated
from labctl.errors import BrokenLabError
from labctl.host import network, process
from labctl.topology.spec import InterfaceSpec, LabSpec, NodeSpec

CARDS = Path("/sys/class/net")


def plug_in(spec: LabSpec, node: NodeSpec) -> None:
    """Plug a machine's taps into the lab's bridges; idempotent.

    :raises BrokenLabError: a tap is neither on the host nor in the lab's namespace.
    """
    namespace = network.lab_namespace(spec.name)
    cables = [(card, port) for card in node.interfaces for port in network.ports(card)]
    for card, port in cables:
        if (CARDS / port).exists():
            process.run(["ip", "link", "set", port, "netns", namespace])
        lines = [
            f"link set {port} mtu {spec.networks[card.network].mtu} master {network.bridge(spec, card.network)}",
            f"link set {port} up",
        ]
        done = process.run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n", check=False)
        if done.returncode != 0:
            raise BrokenLabError(
                f"{node.name}: card {card.name} has no tap device {port} on this machine: {done.stderr.strip()}",
                "libvirt must run on this machine: unset LIBVIRT_DEFAULT_URI",
            )


def severed(spec: LabSpec, node: NodeSpec) -> str:
    """The card of a running machine that is not plugged in, e.g. because its namespace was deleted; else empty."""
    done = process.run(["ip", "-n", network.lab_namespace(spec.name), "-o", "link", "show"], check=False)
    for card in node.interfaces:
        if any(f": {port}: " not in done.stdout for port in network.ports(card)):
            return f"its card {card.name} is not plugged into the lab's network {card.network}"
    return ""


def carrier(domain: Any | None, card: InterfaceSpec, up: bool) -> None:
    """Show a running machine its cable as plugged in or unplugged."""
    description = asked(domain.XMLDesc) if domain is not None else None
    if domain is None or description is None:
        return
    for device in tree.fromstring(description).findall("devices/interface"):
        mac, link = device.find("mac"), device.find("link")
        if mac is None or mac.get("address") not in {each.mac for each in card.cards}:
            continue
        if link is None:
            link = tree.SubElement(device, "link")
        link.set("state", "up" if up else "down")
        with translated(f"the link of {card.name} cannot be changed"):
            domain.updateDeviceFlags(tree.tostring(device, encoding="unicode"), library().VIR_DOMAIN_AFFECT_LIVE)
