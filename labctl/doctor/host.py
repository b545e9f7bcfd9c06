"""Checks of the host, one function each, returning findings; a facility is tested by using it and cleaned up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from labctl.errors import LabError
from labctl.host import cgroup, files, memory, paths, process
from labctl.host.overlay import escaped
from labctl.images import kvm
from labctl.images.apt import sources as apt_sources
from labctl.progress import step
from labctl.topology.units import show_size

GIB = 2**30


class State(StrEnum):
    """Severity of a finding: fine, labctl works in another way, or something does not work."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """Result of one check; ``hint`` is the next step, empty when there is none."""

    check: str
    state: State
    found: str
    hint: str = ""


@dataclass(frozen=True)
class Facility:
    """A kernel facility, the command that tests it in separate namespaces, and what fails without it."""

    name: str
    trial: str
    state: State  # when it is missing
    without: str
    hint: str = ""


#: program -> (Debian package, what it is for)
PROGRAMS: dict[str, tuple[str, str]] = {
    "ip": ("iproute2", "every driver"),
    "nsenter": ("util-linux", "every driver"),
    "mmdebstrap": ("mmdebstrap", "Debian images"),
    "systemd-nspawn": ("systemd-container", "driver nspawn"),
    "qemu-img": ("qemu-utils", "driver libvirt, guest image"),
    "qemu-system-x86_64": ("qemu-system-x86", "driver libvirt"),
    "mke2fs": ("e2fsprogs", "driver libvirt, guest image"),
    "nft": ("nftables", "networks with nat: true"),
    "ssh": ("openssh-client", "labctl ssh"),
}
FACILITIES = (
    Facility("bridge and veth", "ip link add name v0 type veth peer name v1 && ip link add name br0 type bridge",
             State.PROBLEM, "no driver works", "modprobe bridge veth"),
    Facility("tun", "[ -c /dev/net/tun ] && ip tuntap add dev tap0 mode tap",
             State.PROBLEM, "nova plugs no guest, and VMs have no network cards", "modprobe tun"),
    Facility("VXLAN", "ip link add name vx0 type vxlan id 1 dstport 4789 dev lo",
             State.PROBLEM, "self-service networks do not work in containers", "modprobe vxlan"),
    Facility("nftables", "nft add table ip labctl",
             State.PROBLEM, "security groups and nat: true do not work in containers", "modprobe nf_tables"),
    Facility("traffic control", "tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 400ms",
             State.NOTE, "no bandwidth limits", "modprobe sch_tbf"),
    Facility("network emulation", "tc qdisc add dev lo root netem delay 1ms",
             State.NOTE, "no delay or loss can be injected on links", "modprobe sch_netem"),
    Facility("loop devices", "[ -e /dev/loop-control ] && losetup --find",
             State.PROBLEM, "containers have no additional disks", "modprobe loop"),
    Facility("device mapper", "grep -q device-mapper /proc/misc || modprobe -q dm_mod",
             State.NOTE, "containers use NFS instead of LVM for Cinder; VMs have their own kernels",
             "--driver libvirt"),
    Facility("Open vSwitch", "[ -d /sys/module/openvswitch ] || modprobe -q openvswitch",
             State.NOTE, "containers use linuxbridge; VMs have their own kernels", "--driver libvirt"),
)  # fmt: skip


def system() -> list[Finding]:
    """The machine itself: processor, root, init, cores, memory, disk."""
    found = []
    machine = os.uname().machine
    if machine != "x86_64":
        found.append(Finding("processor", State.PROBLEM, f"{machine}; images are built for x86_64"))
    cores = os.cpu_count() or 1
    state = State.OK if cores >= 2 else State.NOTE
    found.append(Finding("cores", state, str(cores), "" if cores >= 2 else "a two-node lab needs 2 cores"))
    if os.geteuid() == 0:
        found.append(Finding("root", State.OK, "yes"))
    else:
        found.append(Finding("root", State.PROBLEM, "no: namespaces and mounts need root", "sudo labctl doctor"))
    init = Path("/proc/1/comm").read_text().strip()
    found.append(Finding("init", State.OK, f"{init}{'' if init == 'systemd' else ', which labctl does not need'}"))
    free = memory.available()
    enough = free >= 5 * GIB
    hint = "" if enough else "a two-node lab needs 5 GiB: labctl list shows the labs, labctl down NAME frees memory"
    found.append(Finding("memory", State.OK if enough else State.PROBLEM, f"{show_size(free)} free", hint))
    home = paths.home()
    place = next(p for p in (home, *home.parents) if p.exists())
    room = shutil.disk_usage(place).free
    enough = room >= 8 * GIB
    hint = "" if enough else f"8 GiB are needed: free space in {home}, or set LABCTL_HOME to a larger file system"
    found.append(Finding("disk", State.OK if enough else State.PROBLEM, f"{show_size(room)} free for {home}", hint))
    return found


def programs() -> list[Finding]:
    """The programs that labctl runs, and the package mirror."""
    found = []
    if absent := process.missing(*PROGRAMS):
        uses = "; ".join(f"{p} ({PROGRAMS[p][1]})" for p in absent)
        install = " ".join(dict.fromkeys(PROGRAMS[p][0] for p in absent))
        hint = f"apt-get install --no-install-recommends {install}"
        found.append(Finding("programs", State.PROBLEM, f"not installed: {uses}", hint))
    else:
        found.append(Finding("programs", State.OK, f"all {len(PROGRAMS)} are installed"))
    try:
        found.append(Finding("package mirror", State.OK, str(apt_sources())))
    except LabError as error:
        found.append(Finding("package mirror", State.PROBLEM, error.message, "Debian images cannot be built"))
    return found


def overlay() -> list[Finding]:
    """Overlay file systems where labctl keeps its labs, tested with a mount in a private namespace."""
    if os.geteuid() != 0:
        return []
    home = paths.home()
    place = next(p for p in (home, *home.parents) if p.exists())
    try:
        layer = escaped(place)
    except LabError as error:
        return [Finding("overlay", State.PROBLEM, error.message, error.hint)]
    try:
        with files.temporary(".labctl-doctor-", place) as name:
            for part in ("lower", "upper", "work", "root"):
                files.new_directory(name / part)
            inner = f"{layer}/{name.name}"
            options = f"lowerdir={inner}/lower,upperdir={inner}/upper,workdir={inner}/work"
            mount = ["mount", "-t", "overlay", "labctl", "-o", options, f"{name}/root"]
            done = process.run(["unshare", "--mount", *mount], check=False)
    except OSError as error:
        hint = f"set LABCTL_HOME to a writable directory, not {home}"
        return [Finding("overlay", State.PROBLEM, f"{place} is not writable: {error.strerror}", hint)]
    if done.returncode == 0:
        return [Finding("overlay", State.OK, f"works on {place}")]
    reason = done.stderr.strip().splitlines()[-1:] or ["mount failed"]
    hint = "modprobe overlay, or set LABCTL_HOME to a directory on ext4 or XFS"
    return [Finding("overlay", State.PROBLEM, f"not on {place}: {reason[0]}", hint)]


def control_groups() -> list[Finding]:
    """Control groups, which count a container's CPU seconds and freeze it."""
    try:
        cgroup.path("doctor")
    except LabError as error:
        hint = "mount -t cgroup2 none /sys/fs/cgroup, or see mount(8) for the v1 hierarchies"
        return [Finding("control groups", State.PROBLEM, error.message, hint)]
    unified = (cgroup.ROOT / "cgroup.controllers").exists()
    if unified or (cgroup.ROOT / "freezer" / "cgroup.procs").exists():
        return [Finding("control groups", State.OK, "v2" if unified else "v1, with a freezer")]
    hint = "mkdir /sys/fs/cgroup/freezer; mount -t cgroup -o freezer none /sys/fs/cgroup/freezer"
    return [Finding("control groups", State.NOTE, "v1 without a freezer: containers cannot be paused", hint)]


def facilities(table: tuple[Facility, ...] = FACILITIES) -> list[Finding]:
    """The kernel's facilities, each tested in its own network and mount namespace."""
    if os.geteuid() != 0:
        return []
    found = []
    for item in table:
        trial = ["unshare", "--net", "--mount", "sh", "-c", item.trial]
        done = process.run(trial, check=False, timeout=30)
        if done.returncode == 0:
            found.append(Finding(item.name, State.OK, "works"))
        else:
            loads = not item.hint.startswith("modprobe") or Path("/proc/modules").exists()
            hint = item.hint if loads else "this kernel loads no modules: boot another kernel"
            found.append(Finding(item.name, item.state, f"missing: {item.without}", hint))
    return found


def virtualisation(*, fresh: bool = False) -> list[Finding]:
    """KVM, from CPU flags to the live probe, and the accelerator that VMs and guests get."""
    seen = kvm.examine(fresh=fresh)
    found = [
        Finding("CPU flags", State.OK if seen.flags else State.NOTE,
                " ".join(seen.flags) or "neither vmx nor svm: no hardware virtualisation",
                "" if seen.flags else "enable VT-x or AMD-V in the firmware, or nested virtualisation on the host"),
        _device(seen.device),
    ]  # fmt: skip
    if seen.boot is not None:
        state, hint = (State.OK, "") if seen.works else (State.NOTE, _why_not(seen))
        found.append(Finding("KVM kernel boot", state, seen.sentence, hint))
    if seen.works:
        found.append(Finding("VMs run with", State.OK, f"KVM, CPU model {seen.boot.model if seen.boot else ''}"))
        hint = "" if seen.nested else "modprobe -r kvm_intel; modprobe kvm_intel nested=1 (or kvm_amd)"
        said = "on" if seen.nested else "off: guests inside VMs are emulated"
        found.append(Finding("nested KVM", State.OK if seen.nested else State.NOTE, said, hint))
    else:
        found.append(Finding("VMs run with", State.NOTE, "software emulation (QEMU TCG), about ten times slower"))
    return found


def _device(seen: kvm.Device) -> Finding:
    if seen.creates:
        return Finding("/dev/kvm", State.OK, f"opens, API version {seen.api}, creates a VM")
    hint = "modprobe kvm_intel or kvm_amd" if not seen.exists else ""
    if seen.exists and not seen.opens:
        hint = f"usermod --append --groups kvm {os.environ.get('USER', 'USER')}, then log in again; or sudo"
    return Finding("/dev/kvm", State.NOTE, seen.error, hint)


def _why_not(seen: kvm.Verdict) -> str:
    if not seen.flags:
        return "nothing to do: labctl uses emulation; KVM needs a processor with hardware virtualisation"
    return "dmesg | grep -i kvm; labctl uses emulation meanwhile; labctl doctor --fresh tries again"


CHECKS: tuple[Callable[[], list[Finding]], ...] = (system, programs, overlay, control_groups, facilities)


def examine(*, fresh: bool = False) -> list[Finding]:
    """Every finding, in display order.

    :param fresh: repeat the KVM kernel boot instead of using the result cached for this host boot.
    """
    found: list[Finding] = []
    with step("host", "check this machine"):
        for check in CHECKS:
            found += check()
        return found + virtualisation(fresh=fresh)
