"""Frozen layers moved to another host: what their machines' memory needs there, and rebasing their disks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as tree

from labctl.drivers.libvirt import disks, memory
from labctl.drivers.libvirt.connection import Connection, library, translated
from labctl.drivers.libvirt.domain import Accelerator
from labctl.errors import LabError
from labctl.host import files
from labctl.records.lab import MEMORY, Lab

#: libvirt's CPU modes that copy the host's processor: such machines resume only on the same processor.
_HOSTS_OWN = ("host-passthrough", "host-model")

#: What :func:`needs` says at least.
_NEEDS = {"accelerator", "machine", "cpu", "qemu", "processor"}


def needs(connection: Connection, lab: Lab, layer: str) -> dict[str, str]:
    """What machines need to resume from a layer's memory; empty if it has none."""
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
    """What this host lacks to resume from saved memory, empty if nothing.

    QEMU resumes from memory saved by the same or an older version, not by a newer one
    (https://www.qemu.org/docs/master/devel/migration/compatibility.html).
    """
    here = memory.here(connection.get())
    if needs["accelerator"] == "kvm" and accelerator.type != "kvm":
        return "KVM, which does not work here"
    if needs["accelerator"] == "kvm" and needs["cpu"] in _HOSTS_OWN and needs["processor"] != here["processor"]:
        return f"the processor {needs['processor']}; this host has {here['processor']}"
    if _number(needs["qemu"]) > _number(here["qemu"]):
        return f"QEMU {needs['qemu']} or newer; this host has {here['qemu']}"
    if not _knows(connection.get(), needs):
        return f"QEMU's machine type {needs['machine']}, which QEMU on this host does not support"
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
    """Check the disks of layers from another host, and rebase them on this host's golden image.

    :param needs: what their memory needs; if empty, the memory is dropped.
    :raises LabError: this host lacks something of it, or a disk reads files that are not its own.
    """
    if needs and not (needs.keys() >= _NEEDS and re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,5}){0,3}", needs["qemu"])):
        raise LabError(f"what the memory of {lab.name}'s machines needs is not said", "--boot drops it")
    if needs and (lack := lacking(connection, accelerator, needs)):
        raise LabError(f"the memory of {lab.name}'s machines needs {lack}", "--boot drops it and boots the machines")
    (image,) = lab.layers
    disks.adopt(lab, image)
    if not needs:
        for saved in (found for number in lab.stack for found in lab.layer(number).glob(f"*/{MEMORY}")):
            files.erase(saved)
