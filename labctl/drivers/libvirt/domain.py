"""A node as a libvirt domain: its XML, with the lab's mark. Pure.

Domains are transient: libvirt knows a machine only while it is running, so nothing of a lab ever stays in libvirt's
configuration, and a machine that is off is only files in its lab's directory.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as tree

from labctl.topology.defaults import MTU

#: XML namespace of the element that marks a domain as a lab's.
NAMESPACE = "urn:labctl:domain:1"
PREFIX = "labctl."
tree.register_namespace("labctl", NAMESPACE)


def domain_name(name: str, node: str) -> str:
    """Name of a node's domain. Lab and node names have no dots."""
    return f"{PREFIX}{name}.{node}"


@dataclass(frozen=True)
class Mark:
    """The owner of a domain: the lab's name and id, the node, and the lab's labctl home."""

    lab: str
    id: str
    node: str
    home: str

    @property
    def uuid(self) -> str:
        """The domain's UUID, the same for each start of the node."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{self.id}/{self.node}"))


def read_mark(description: str) -> Mark | None:
    """The mark in a domain's XML; None if it does not belong to a lab."""
    found = tree.fromstring(description).find(f"metadata/{{{NAMESPACE}}}node")
    if found is None:
        return None
    return Mark(*(found.get(key, "") for key in ("lab", "id", "name", "home")))


@dataclass(frozen=True)
class Accelerator:
    """How domains are run: ``kvm`` or ``qemu`` (software emulation), and with which CPU.

    ``cpu`` is a model's name or a mode: host-passthrough, maximum; ``features`` are added to the model.
    """

    type: str
    cpu: str
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Disk:
    """A qcow2 disk (raw if read-only), identified inside the machine by its serial number."""

    path: Path
    serial: str
    readonly: bool = False


@dataclass(frozen=True)
class Card:
    """A network card; ``port`` is its tap device on the host side, ``mtu`` in bytes."""

    mac: str
    port: str
    mtu: int = MTU


@dataclass(frozen=True)
class DirectBoot:
    """A kernel booted without a boot loader."""

    kernel: Path
    initrd: Path
    arguments: str


@dataclass(frozen=True)
class Firmware:
    """A disk with its own boot loader: ``bios`` or ``efi``."""

    type: str = "bios"


@dataclass(frozen=True)
class Domain:
    """A machine's full description for libvirt; ``memory`` in bytes."""

    mark: Mark
    accelerator: Accelerator
    machine: str
    cpus: int
    memory: int
    boot: DirectBoot | Firmware
    disks: Sequence[Disk]
    cards: Sequence[Card]
    console: Path

    @property
    def name(self) -> str:
        """The domain's name."""
        return domain_name(self.mark.lab, self.mark.node)

    def xml(self) -> str:
        """The domain's description for libvirt."""
        root = tree.Element("domain", type=self.accelerator.type)
        _add(root, "name", self.name)
        _add(root, "uuid", self.mark.uuid)
        mark = self.mark
        marks = {"lab": mark.lab, "id": mark.id, "name": mark.node, "home": mark.home}
        tree.SubElement(_add(root, "metadata"), f"{{{NAMESPACE}}}node", marks)
        _add(root, "memory", str(self.memory), unit="b")
        _add(root, "vcpu", str(self.cpus))
        self._os(root)
        self._features(root)
        self._clock(root)
        for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
            _add(root, f"on_{event}", action)
        self._devices(_add(root, "devices"))
        # files keep their owners: a golden disk or kernel with a changed owner would no longer match the store's
        # manifest
        label = _add(root, "seclabel", type="static", model="dac", relabel="no")
        _add(label, "label", "+0:+0")
        tree.indent(root)
        return tree.tostring(root, encoding="unicode")

    def _os(self, root: tree.Element) -> None:
        boot = self.boot
        os = _add(root, "os", firmware="efi") if boot == Firmware("efi") else _add(root, "os")
        _add(os, "type", "hvm", arch="x86_64", machine=self.machine)
        if isinstance(boot, DirectBoot):
            _add(os, "kernel", str(boot.kernel))
            _add(os, "initrd", str(boot.initrd))
            _add(os, "cmdline", boot.arguments)

    def _features(self, root: tree.Element) -> None:
        features = _add(root, "features")
        _add(features, "acpi")
        _add(features, "apic")
        modes = ("host-passthrough", "maximum", "host-model")
        if self.accelerator.cpu in modes:
            cpu = _add(root, "cpu", mode=self.accelerator.cpu, check="none")
        else:
            cpu = _add(root, "cpu", mode="custom", match="exact", check="none")
            _add(cpu, "model", self.accelerator.cpu, fallback="forbid")
        for feature in self.accelerator.features:
            _add(cpu, "feature", policy="require", name=feature)

    def _clock(self, root: tree.Element) -> None:
        clock = _add(root, "clock", offset="utc")
        _add(clock, "timer", name="rtc", tickpolicy="catchup")
        _add(clock, "timer", name="pit", tickpolicy="delay")
        if self.accelerator.type == "kvm":
            _add(clock, "timer", name="hpet", present="no")

    def _devices(self, devices: tree.Element) -> None:
        for number, disk in enumerate(self.disks):
            device = _add(devices, "disk", type="file", device="disk")
            # labs never wait for the disk; if the host loses power, their last writes are lost
            _add(device, "driver", name="qemu", type="raw" if disk.readonly else "qcow2", cache="unsafe",
                 discard="unmap")  # fmt: skip
            _add(device, "source", file=str(disk.path))
            _add(device, "target", dev=_letters(number), bus="virtio")
            if disk.readonly:
                _add(device, "readonly")
            elif number == 0 and isinstance(self.boot, Firmware):
                _add(device, "boot", order="1")
            _add(device, "serial", disk.serial)
        for card in self.cards:
            device = _add(devices, "interface", type="ethernet")
            _add(device, "mac", address=card.mac)
            _add(device, "target", dev=card.port)
            _add(device, "model", type="virtio")
            if card.mtu != MTU:
                _add(device, "mtu", size=str(card.mtu))
        serial = _add(devices, "serial", type="file")
        _add(serial, "source", path=str(self.console), append="on")
        rng = _add(devices, "rng", model="virtio")
        _add(rng, "backend", "/dev/urandom", model="random")
        _add(devices, "panic", model="isa")  # reports kernel panics; on_crash then ends the machine
        _add(devices, "memballoon", model="none")
        _add(devices, "controller", type="usb", model="none")


def _add(parent: tree.Element, tag: str, text: str = "", **attributes: str) -> tree.Element:
    element = tree.SubElement(parent, tag, attributes)
    element.text = text or None
    return element


def _letters(number: int) -> str:
    """vda, vdb … vdz, vdaa …"""
    name, number = "", number + 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("a") + rest) + name
    return f"vd{name}"
