"""The cards of virtual machines: tap devices that QEMU holds, moved into the lab's namespace.

libvirt makes a tap where it runs, in the host's namespace. The machine is still paused then, so it has sent
nothing when the tap goes into the lab's namespace, where the bridges are. The tap ends with QEMU.
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
    """Plug a machine's taps into the lab's bridges; safe to repeat.

    :raises BrokenLabError: a tap is neither on this host nor in the lab's namespace.
    """
    namespace = network.lab_namespace(spec.name)
    for card in node.interfaces:
        port = network.port(card)
        if (CARDS / port).exists():
            process.run(["ip", "link", "set", port, "netns", namespace])
        lines = [f"link set {port} master {network.bridge(spec, card.network)}", f"link set {port} up"]
        done = process.run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n", check=False)
        if done.returncode != 0:
            raise BrokenLabError(
                f"{node.name}: its card {card.name} has no tap device {port} on this machine: {done.stderr.strip()}",
                "libvirt must run on this very machine: unset LIBVIRT_DEFAULT_URI",
            )


def severed(spec: LabSpec, node: NodeSpec) -> str:
    """Which card of a running machine is plugged in nowhere, as when its lab's namespace was deleted; or nothing."""
    done = process.run(["ip", "-n", network.lab_namespace(spec.name), "-o", "link", "show"], check=False)
    for card in node.interfaces:
        if f": {network.port(card)}: " not in done.stdout:
            return f"its card {card.name} is not plugged into the lab's network {card.network}"
    return ""


def carrier(domain: Any | None, card: InterfaceSpec, up: bool) -> None:
    """Let a running machine see its cable as plugged in or pulled out."""
    description = asked(domain.XMLDesc) if domain is not None else None
    if domain is None or description is None:
        return
    for device in tree.fromstring(description).findall("devices/interface"):
        mac, link = device.find("mac"), device.find("link")
        if mac is None or mac.get("address") != card.mac:
            continue
        if link is None:
            link = tree.SubElement(device, "link")
        link.set("state", "up" if up else "down")
        with translated(f"the link of {card.name} cannot be changed"):
            domain.updateDeviceFlags(tree.tostring(device, encoding="unicode"), library().VIR_DOMAIN_AFFECT_LIVE)
