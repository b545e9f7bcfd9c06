"""An OVF 1.0 description for VirtualBox (DMTF DSP0243): one IDE disk, one card behind NAT.

The Vagrantfile sets processors, memory and more cards; these are the minimum that boots.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as tree

OVF = "http://schemas.dmtf.org/ovf/envelope/1"
RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
for prefix, uri in (("ovf", OVF), ("rasd", RASD), ("vssd", VSSD)):
    tree.register_namespace(prefix, uri)
#: VMware's disk format: https://www.vmware.com/app/vmdk/?page=specs
FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
#: Debian, 64 bit, in CIM_OperatingSystem
DEBIAN_64 = "96"
# CIM_ResourceAllocationSettingData.ResourceType
_PROCESSOR, _MEMORY, _IDE, _ETHERNET, _DISK = "3", "4", "5", "10", "17"


def description(name: str, disk: Path, capacity: int) -> str:
    """The text of an ``.ovf`` file.

    :param disk: the disk's file, beside the description.
    :param capacity: the disk's size in bytes.
    """
    root = tree.Element(f"{{{OVF}}}Envelope", {f"{{{OVF}}}version": "1.0"})
    references = _add(root, "References")
    _add(references, "File", href=disk.name, id="file1", size=str(disk.stat().st_size))
    disks = _add(root, "DiskSection")
    _add(disks, "Info", "the disk that boots")
    _add(disks, "Disk", capacity=str(capacity), diskId="disk1", fileRef="file1", format=FORMAT)
    networks = _add(root, "NetworkSection")
    _add(networks, "Info", "the card that Vagrant reaches the machine by")
    _add(networks, "Network", name="NAT")
    system = _add(root, "VirtualSystem", id=name)
    _add(system, "Info", "a machine made of labctl's box")
    _add(_add(system, "OperatingSystemSection", id=DEBIAN_64), "Info", "Debian, 64 bit")
    hardware = _add(system, "VirtualHardwareSection")
    _add(hardware, "Info", "one processor, 512 MiB")
    about = _add(hardware, "System")
    for key, value in (("ElementName", "hardware"), ("InstanceID", "0"), ("VirtualSystemType", "virtualbox-2.2")):
        tree.SubElement(about, f"{{{VSSD}}}{key}").text = value
    _item(hardware, "1", _PROCESSOR, VirtualQuantity="1")
    _item(hardware, "2", _MEMORY, AllocationUnits="MegaBytes", VirtualQuantity="512")
    _item(hardware, "3", _IDE, Address="0", ResourceSubType="PIIX4")
    _item(hardware, "4", _DISK, AddressOnParent="0", HostResource="/disk/disk1", Parent="3")
    _item(hardware, "5", _ETHERNET, AutomaticAllocation="true", Connection="NAT", ResourceSubType="virtio")
    tree.indent(root)
    return tree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(parent: tree.Element, tag: str, text: str = "", **attributes: str) -> tree.Element:
    element = tree.SubElement(parent, f"{{{OVF}}}{tag}", {f"{{{OVF}}}{k}": v for k, v in attributes.items()})
    element.text = text or None
    return element


def _item(hardware: tree.Element, number: str, kind: str, **more: str) -> None:
    fields = {"ElementName": f"item {number}", "InstanceID": number, "ResourceType": kind, **more}
    item = _add(hardware, "Item")
    for key, value in sorted(fields.items()):
        tree.SubElement(item, f"{{{RASD}}}{key}").text = value
