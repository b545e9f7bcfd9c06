"""Frozen layers that go to another host: what their machines' memory needs there, and what becomes of their disks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as tree

from labctl.drivers.libvirt import disks, memory
from labctl.drivers.libvirt.connection import Connection, library, translated
from labctl.drivers.libvirt.domain import Accelerator
from labctl.errors import LabError
from labctl.records.lab import MEMORY, Lab

#: libvirt's modes of a CPU that is as the host's: its machines go on only on the same processor.
_HOSTS_OWN = ("host-passthrough", "host-model")


def needs(connection: Connection, lab: Lab, layer: str) -> dict[str, str]:
    """What machines need to go on from a layer's memory; nothing when it has none."""
    saved = next(iter(sorted(lab.layer(layer).glob(f"*/{MEMORY}"))), None)
    if saved is None:
        return {}
    with translated(f"{saved} cannot be read"):
        root = tree.fromstring(connection.get().saveImageGetXMLDesc(str(saved), 0))
    cpu, machine = root.find("cpu"), root.find("os/type")
    mode = "" if cpu is None else cpu.get("mode", "")
    return {
        "accelerator": root.get("type", ""),
        "machine": "" if machine is None else machine.get("machine", ""),
        "cpu": mode if mode in _HOSTS_OWN else root.findtext("cpu/model", mode),
        **{key: value for key, value in memory.facts(saved).items() if key != "of"},
    }


def lacking(connection: Connection, accelerator: Accelerator, needs: Mapping[str, str]) -> str:
    """What this host lacks of what saved memory needs, empty for nothing.

    QEMU goes on from what it saved itself or an older one did, not from what a newer one saved
    (https://www.qemu.org/docs/master/devel/migration/compatibility.html).
    """
    here = memory.here(connection.get())
    if needs["accelerator"] == "kvm" and accelerator.type != "kvm":
        return "KVM, which does not work here"
    if needs["accelerator"] == "kvm" and needs["cpu"] in _HOSTS_OWN and needs["processor"] != here["processor"]:
        return f"the processor {needs['processor']}; this is {here['processor']}"
    if _number(needs["qemu"]) > _number(here["qemu"]):
        return f"QEMU {needs['qemu']} or newer; here is {here['qemu']}"
    if not _knows(connection.get(), needs):
        return f"QEMU's machine type {needs['machine']}, which the one here does not know"
    return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _knows(handle: Any, needs: Mapping[str, str]) -> bool:
    try:
        handle.getDomainCapabilities(None, "x86_64", needs["machine"], needs["accelerator"], 0)
    except library().libvirtError:
        return False
    return True


def adopt(connection: Connection, accelerator: Accelerator, lab: Lab, needs: Mapping[str, str]) -> None:
    """Let the disks of layers that came from another host stand on the golden image of this one.

    :param needs: what their memory needs; without any it is dropped.
    :raises LabError: this host does not have it.
    """
    if needs and (lack := lacking(connection, accelerator, needs)):
        raise LabError(f"the memory of {lab.name}'s machines needs {lack}", "--boot leaves it, and machines boot")
    (image,) = lab.layers
    for number in lab.stack:
        layer = lab.layer(number)
        for root in sorted(layer.glob("*/root.qcow2")):
            disks.rebase(root, image)
        if not needs:
            for saved in layer.glob(f"*/{MEMORY}"):
                saved.unlink()
