"""Pre-flight check for Vagrant: version, plug-in, VirtualBox and its extension pack, conflicts with KVM, disk space.

A lab does not need Vagrant, so what is missing is a note; only the driver vagrant refuses to start without it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from labctl.doctor.host import GIB, Finding, State
from labctl.drivers.vagrant import command
from labctl.errors import LabError
from labctl.host import process
from labctl.topology.units import show_size

VBOXMANAGE = "VBoxManage"
#: The oldest versions that labctl supports (docs/verified.md has 2.3.4 with 0.11.2).
OLDEST, OLDEST_PLUGIN = (2, 3), (0, 9)
#: Newest VirtualBox that Vagrant 2.3 supports, by its own list (plugins/providers/virtualbox/driver/meta.rb).
NEWEST_VIRTUALBOX: dict[tuple[int, ...], tuple[int, int]] = {(2, 3): (7, 0)}
#: labctl keeps the packed box, Vagrant the unpacked one, and two machines write to it.
ROOM = 10 * GIB
INSTALL = "apt-get install --no-install-recommends vagrant vagrant-libvirt dnsmasq-base"
MODULES = Path("/sys/module")


def examine() -> list[Finding]:
    """Every finding about Vagrant; one line when it is not installed."""
    if process.missing(command.PROGRAM):
        return [Finding("Vagrant", State.NOTE, "not installed: no driver vagrant, no rendered labs here", INSTALL)]
    if not command.installed():
        return [Finding("Vagrant", State.NOTE, "python-vagrant is not installed: no driver vagrant", "make venv")]
    with command.scratch() as client:
        try:
            version = client.version()
            plugins = client.plugins()
        except LabError as error:
            return [Finding("Vagrant", State.PROBLEM, error.message, error.hint)]
    found = [_version(version), _plugin(plugins.get(command.PLUGIN, "")), _leases()]
    found += virtualbox(_numbers(version))
    return [*found, _room()]


def _numbers(version: str) -> tuple[int, ...]:
    """1.2.3 as numbers, up to the first part that is not a number."""
    matched = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in matched[0].split(".")) if matched else ()


def _version(version: str) -> Finding:
    if _numbers(version) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return Finding("Vagrant", State.PROBLEM, f"{version} is older than {wanted}", INSTALL)
    return Finding("Vagrant", State.OK, version)


def _plugin(version: str) -> Finding:
    if not version:
        return Finding("vagrant-libvirt", State.NOTE, "not installed: no provider libvirt", INSTALL)
    if _numbers(version) < OLDEST_PLUGIN:
        wanted = ".".join(map(str, OLDEST_PLUGIN))
        return Finding("vagrant-libvirt", State.PROBLEM, f"{version} is older than {wanted}", INSTALL)
    return Finding("vagrant-libvirt", State.OK, version)


def _leases() -> Finding:
    if process.missing("dnsmasq"):
        said = "not installed: libvirt gives Vagrant's machines no addresses"
        return Finding("dnsmasq", State.NOTE, said, "apt-get install --no-install-recommends dnsmasq-base")
    return Finding("dnsmasq", State.OK, "installed")


def virtualbox(vagrant: tuple[int, ...] = ()) -> list[Finding]:
    """VirtualBox: its version against Vagrant's, its kernel module, its extension pack, KVM beside it.

    :param vagrant: Vagrant's version, empty when unknown.
    """
    if process.missing(VBOXMANAGE):
        return [Finding("VirtualBox", State.NOTE, "not installed: no provider virtualbox here")]
    said = process.run([VBOXMANAGE, "--version"], check=False, timeout=60).stdout.strip().splitlines()
    version = said[-1] if said else ""
    if not _numbers(version):
        found = Finding("VirtualBox", State.PROBLEM, f"{VBOXMANAGE} reports no version: {version or 'no output'}",
                        "reinstall VirtualBox: https://www.virtualbox.org/wiki/Linux_Downloads")  # fmt: skip
        return [found]
    return [_virtualbox_version(version, vagrant), *_module(said), _extension(version), *_conflict()]


def _virtualbox_version(version: str, vagrant: tuple[int, ...]) -> Finding:
    newest = NEWEST_VIRTUALBOX.get(vagrant[:2])
    if newest and _numbers(version)[:2] > newest:
        known, own = ".".join(map(str, newest)), ".".join(map(str, vagrant))
        hint = f"install a newer Vagrant, or VirtualBox {known}"
        return Finding("VirtualBox", State.PROBLEM, f"{version}; Vagrant {own} supports up to {known}", hint)
    return Finding("VirtualBox", State.OK, version)


def _module(said: list[str]) -> list[Finding]:
    """VBoxManage warns before its version when vboxdrv is not loaded."""
    if Path("/dev/vboxdrv").exists() and len(said) == 1:
        return []
    return [Finding("VirtualBox module", State.PROBLEM, "vboxdrv is not loaded: VMs do not start", "/sbin/vboxconfig")]


def _extension(version: str) -> Finding:
    """The extension pack must have the same version as VirtualBox."""
    text = process.run([VBOXMANAGE, "list", "extpacks"], check=False, timeout=60).stdout
    packs = re.findall(r"^Version:\s+(\S+)", text, re.MULTILINE)
    if not packs:
        return Finding("VirtualBox extensions", State.OK, "none; labs need none")
    if any(_numbers(pack) != _numbers(version) for pack in packs):
        found = f"extension pack {', '.join(packs)} does not match VirtualBox {version}"
        return Finding("VirtualBox extensions", State.PROBLEM, found, "VBoxManage extpack install --replace FILE")
    return Finding("VirtualBox extensions", State.OK, ", ".join(packs))


def _conflict() -> list[Finding]:
    """KVM beside VirtualBox: only one of them can use hardware virtualisation at a time.

    From Linux 6.12 on, KVM enables it when its module is loaded (Documentation/admin-guide/kernel-parameters.txt,
    kvm.enable_virt_at_load); before 6.12, when its first VM starts.
    """
    loaded = [name for name in ("kvm_intel", "kvm_amd") if (MODULES / name).exists()]
    if not loaded:
        return []
    value = MODULES / "kvm/parameters/enable_virt_at_load"
    held = value.exists() and value.read_text().strip() in ("Y", "1")
    if held:
        found = f"{loaded[0]} holds hardware virtualisation: VirtualBox cannot start 64-bit VMs"
        return [Finding("VirtualBox beside KVM", State.PROBLEM, found, f"modprobe -r {loaded[0]} kvm")]
    found = f"{loaded[0]} is loaded: KVM and VirtualBox cannot run VMs at the same time"
    return [Finding("VirtualBox beside KVM", State.NOTE, found, f"modprobe -r {loaded[0]} kvm, or use one at a time")]


def _room() -> Finding:
    home = command.home()
    place = next(path for path in (home, *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    said = f"{show_size(free)} free for boxes in {home}"
    if free < ROOM:
        hint = f"{show_size(ROOM)} are needed: vagrant box prune, or set VAGRANT_HOME to a larger file system"
        return Finding("Vagrant's disk", State.NOTE, said, hint)
    return Finding("Vagrant's disk", State.OK, said)
