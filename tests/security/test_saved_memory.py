"""A saved memory's description opens no file of the host that labctl would not open for its machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.drivers.libvirt import memory
from labctl.drivers.libvirt.connection import installed
from labctl.drivers.libvirt.domain import Accelerator, Card, DirectBoot, Disk, Domain, Firmware, Mark
from labctl.drivers.libvirt.portable import adopt
from labctl.drivers.libvirt.saved import foreign, moved
from labctl.errors import LabError

NEEDS = {"accelerator": "qemu", "machine": "pc", "cpu": "qemu64", "qemu": "7.2.0", "processor": "A"}
MARK = Mark("mine", "12ab34cd", "first", "/home")
ARGUMENTS = "console=ttyS0 net.ifnames=0 mitigations=off tsc=reliable no_timer_check"
MACHINE = Domain(
    mark=MARK,
    accelerator=Accelerator("qemu", "qemu64", ("svm",)),
    machine="pc",
    cpus=2,
    memory=512 * 2**20,
    boot=DirectBoot(Path("/here/vmlinuz"), Path("/here/initrd"), ARGUMENTS),
    disks=[Disk(Path("/here/root.qcow2"), "_root"), Disk(Path("/here/seed.iso"), "_seed", readonly=True)],
    cards=[Card("52:54:00:01:02:03", "port010203")],
    console=Path("/here/console.log"),
)
#: As libvirt 9.0 wrote it into a saved memory.
SAVED = f"""\
<domain type='qemu'>
  <name>labctl.mine.first</name>
  <uuid>{MARK.uuid}</uuid>
  <metadata xmlns:labctl="urn:labctl:domain:1">
    <labctl:node lab="mine" id="12ab34cd" name="first" home="/home"/>
  </metadata>
  <memory unit='KiB'>524288</memory>
  <currentMemory unit='KiB'>524288</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <resource>
    <partition>/machine</partition>
  </resource>
  <os>
    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>
    <kernel>/store/vmlinuz</kernel>
    <initrd>/store/initrd</initrd>
    <cmdline>console=ttyS0 net.ifnames=0 mitigations=off tsc=reliable no_timer_check</cmdline>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <cpu mode='custom' match='exact' check='none'>
    <model fallback='forbid'>qemu64</model>
    <feature policy='require' name='svm'/>
  </cpu>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='pit' tickpolicy='delay'/>
  </clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/>
      <source file='/home/labs/mine/layers/1/first/root.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <serial>_root</serial>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='unsafe' discard='unmap'/>
      <source file='/home/labs/mine/nodes/first/seed.iso'/>
      <backingStore/>
      <target dev='vdb' bus='virtio'/>
      <readonly/>
      <serial>_seed</serial>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
    </disk>
    <controller type='usb' index='0' model='none'/>
    <controller type='pci' index='0' model='pci-root'/>
    <interface type='ethernet'>
      <mac address='52:54:00:01:02:03'/>
      <target dev='port010203'/>
      <model type='virtio'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>
    </interface>
    <serial type='file'>
      <source path='/home/labs/mine/nodes/first/console.log' append='on'/>
      <target type='isa-serial' port='0'>
        <model name='isa-serial'/>
      </target>
    </serial>
    <console type='file'>
      <source path='/home/labs/mine/nodes/first/console.log' append='on'/>
      <target type='serial' port='0'/>
    </console>
    <input type='mouse' bus='ps2'/>
    <input type='keyboard' bus='ps2'/>
    <audio id='1' type='none'/>
    <memballoon model='none'/>
    <rng model='virtio'>
      <backend model='random'>/dev/urandom</backend>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>
    </rng>
    <panic model='isa'/>
  </devices>
  <seclabel type='static' model='dac' relabel='no'>
    <label>+0:+0</label>
  </seclabel>
</domain>
"""


def test_what_libvirt_saved_is_the_machines_own() -> None:
    assert foreign(moved(SAVED, MACHINE), MACHINE) == ""


def test_libvirts_own_firmware_is_its_own() -> None:
    efi = SAVED.replace("<os>", "<os firmware='efi'>").replace("cmdline>", "c>")
    efi = efi.replace("<c>", "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader><c>")
    start, end = efi.index("<kernel>"), efi.index("<loader")
    efi = efi[:start] + efi[end:]
    efi = efi[: efi.index("<c>")] + efi[efi.index("<boot dev") :]
    machine = replace(MACHINE, boot=Firmware("efi"))
    assert foreign(moved(efi, machine), machine) == ""
    assert "loader" in foreign(moved(efi.replace("/usr/share/OVMF/", "/etc/"), machine), machine)


def within(before: str, added: str) -> Callable[[str], str]:
    return lambda text: text.replace(before, f"{added}{before}", 1)


def instead(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


FORGED: dict[str, Callable[[str], str]] = {
    "another disk": within("<controller", "<disk type='block'><source dev='/dev/sda'/><serial>x</serial></disk>"),
    "a disk's data file": within("<target dev='vda'", "<source><dataStore type='file'/></source>"),
    "a device of the host": within("<controller", "<hostdev mode='subsystem' type='pci'/>"),
    "a directory of the host": within("<controller", "<filesystem type='mount'><source dir='/'/></filesystem>"),
    "the keyboard of the host": within("<audio", "<input type='evdev'><source dev='/dev/input/event0'/></input>"),
    "sound into a file": instead("<audio id='1' type='none'/>", "<audio id='1' type='file' path='/etc/passwd'/>"),
    "a second console": within("<controller", "<channel type='unix'><source path='/run/docker.sock'/></channel>"),
    "a log of the console": within("<target type='serial'", "<log file='/etc/passwd' append='on'/>"),
    "a console that is a program's": instead("<console type='file'>", "<console type='pipe'>"),
    "randomness of a file": instead("/dev/urandom", "/etc/shadow"),
    "a script for the card": within("<mac ", "<script path='/tmp/evil'/>"),
    "a bridge of the host": instead("<interface type='ethernet'>", "<interface type='bridge'>"),
    "another card's name": instead("port010203", "eth0"),
    "a firmware": within("<cmdline>", "<loader>/etc/shadow</loader>"),
    "a firmware's table": within("<cmdline>", "<acpi><table type='slic'>/etc/shadow</table></acpi>"),
    "other arguments": instead("no_timer_check", "init=/bin/sh"),
    "a firmware's variable": within(
        "<devices>", "<sysinfo type='fwcfg'><entry name='x' file='/etc/shadow'/></sysinfo>"
    ),
    "memory in a file": within("<devices>", "<memoryBacking><source type='file'/></memoryBacking>"),
    "no confinement": instead("</seclabel>", "</seclabel><seclabel type='none' model='apparmor'/>"),
    "arguments of QEMU": within(
        "<devices>", "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-s'/></commandline>"
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_labctl_would_not_write_is_found(kind: str) -> None:
    forged = FORGED[kind](SAVED)
    assert forged != SAVED
    assert foreign(moved(forged, MACHINE), MACHINE)


def test_libvirt_chooses_the_emulator() -> None:
    assert "evil" not in moved(SAVED.replace("/usr/bin/qemu-system-x86_64", "/tmp/evil"), MACHINE)


@pytest.mark.skipif(not installed(), reason="needs Python's libvirt module")
def test_a_machine_is_not_restored_with_it(tmp_path: Path) -> None:
    (tmp_path / "memory").write_bytes(b"")
    restored: list[Any] = []
    forged = FORGED["a device of the host"](SAVED)
    handle = SimpleNamespace(
        saveImageGetXMLDesc=lambda path, flags: forged, restoreFlags=lambda *words: restored.append(words)
    )
    connection: Any = SimpleNamespace(get=lambda: handle)
    with pytest.raises(LabError, match="has a description of first that labctl did not write: devices/hostdev"):
        memory.load(connection, tmp_path / "memory", MACHINE)
    assert restored == []


@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_facts_that_say_no_owner_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text(content)
    with pytest.raises(LabError, match="does not say whose memory"):
        memory.facts(tmp_path / "memory")


def test_memory_outside_of_the_lab_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "lab/layers/1/first").mkdir(parents=True)
    (tmp_path / "outside/first").mkdir(parents=True)
    (tmp_path / "outside/first/memory").write_bytes(b"")
    (tmp_path / "lab/layers/1/first/goes-on").write_text("../../outside")
    layers = tmp_path / "lab/layers"
    lab: Any = SimpleNamespace(name="mine", top=layers / "1", stack=("1",), layer=lambda number: layers / number)
    with pytest.raises(LabError, match="is gone"):
        memory.pending(lab, "first")


@pytest.mark.parametrize("needs", [{"qemu": "7.2"}, {**NEEDS, "qemu": "x"}, {**NEEDS, "qemu": ""}])
def test_needs_that_say_nothing_are_refused(needs: dict[str, str]) -> None:
    lab: Any = SimpleNamespace(name="mine")
    with pytest.raises(LabError, match="is not said"):
        adopt(None, Accelerator("qemu", ""), lab, needs)  # type: ignore[arg-type]
