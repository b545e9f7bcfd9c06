"""The description in a saved memory: it may come from elsewhere, and tells libvirt which files a machine opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as tree

from labctl.drivers.libvirt.domain import NAMESPACE, DirectBoot, Domain, Firmware

#: What libvirt adds to a description, and what concerns the machine alone: elements, attributes and their values.
_OWN_AFFAIR = re.compile(
    r"""(metadata|memory|currentMemory|vcpu|resource|features|cpu|clock|pm|devices/controller)([/@=].*)?
    |on_(poweroff|reboot|crash)
    |os/(boot(@dev)?|type@machine)
    |devices/\w+/(address|alias)(@\w+)?
    |devices/input(@(type|bus)=\w+)?
    |devices/audio(@(id=\d+|type=none))?
    |devices/disk/backingStore
    |devices/serial/target(/model)?(@\w+)?
    |devices/console(/target)?(@(type=(file|serial)|port=\d+))?
    |seclabel@(type=dynamic|model=(apparmor|selinux)|relabel=yes)""",
    re.VERBOSE,
)
#: With EFI libvirt also adds its own firmware.
_FIRMWARE = re.compile(
    r"""os/firmware(/feature)?(@\w+)?
    |os/(loader|nvram)(@(readonly|secure|type|format|templateFormat)=\w+)?
    |os/loader=/usr/share/[\w./-]+
    |os/nvram(@template=/usr/share/|=/var/lib/libvirt/qemu/nvram/)[\w./-]+""",
    re.VERBOSE,
)


def foreign(description: str, machine: Domain) -> str:
    """What labctl or libvirt would not have written into a description of this machine, empty if nothing.

    :param description: as :func:`moved` returns it.
    """
    own = set(_said(tree.fromstring(machine.xml())))
    own |= {fact.replace("devices/serial", "devices/console", 1) for fact in own}
    for fact in _said(tree.fromstring(description)):
        firmware = machine.boot == Firmware("efi") and ".." not in fact and _FIRMWARE.fullmatch(fact)
        # an element or attribute of any value, or this value
        if not (fact in own or firmware or any(map(_OWN_AFFAIR.fullmatch, (fact, fact.partition("=")[0])))):
            return fact
    return ""


def _said(element: tree.Element, path: str = "") -> Iterator[str]:
    """Each element, attribute and text of a description: ``a/b``, ``a/b@name=value`` and ``a/b=text``."""
    for child in element:
        inner = f"{path}{child.tag}"
        yield inner
        yield from (f"{inner}@{name}={value}" for name, value in child.attrib.items())
        if text := (child.text or "").strip():
            yield f"{inner}={text}"
        yield from _said(child, f"{inner}/")


def moved(description: str, machine: Domain) -> str:
    """A saved machine's XML with the paths of another place: disks (by serial number), kernel, console, home."""
    root, files = tree.fromstring(description), {disk.serial: disk.path for disk in machine.disks}
    for device in root.findall("devices/disk"):
        serial, source = device.findtext("serial", ""), device.find("source")
        if serial in files and source is not None:
            source.set("file", str(files[serial]))
            for stale in device.findall("backingStore"):
                device.remove(stale)
    for source in [*root.findall("devices/serial/source"), *root.findall("devices/console/source")]:
        source.set("path", str(machine.console))
    if isinstance(machine.boot, DirectBoot):
        for name, path in (("kernel", machine.boot.kernel), ("initrd", machine.boot.initrd)):
            _child(root, f"os/{name}").text = str(path)
    for emulator in root.findall("devices/emulator"):  # libvirt fills in its own
        _child(root, "devices").remove(emulator)
    _child(root, f"metadata/{{{NAMESPACE}}}node").set("home", machine.mark.home)
    return tree.tostring(root, encoding="unicode")


def _child(root: tree.Element, path: str) -> tree.Element:
    found = root.find(path)
    if found is None:
        raise LookupError(f"a saved machine's description has no {path}")
    return found
