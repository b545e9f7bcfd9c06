"""KVM: what the device, the processor and the module report, and whether a kernel really runs.

Only the last counts. The live probe takes seconds where KVM does not work, so its result is cached until the
machine reboots; a device that cannot be opened is neither probed nor cached.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, home, paths, process
from labctl.images import kernel
from labctl.operations.script import KVM_PROBE
from labctl.progress import step

DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CPUINFO = Path("/proc/cpuinfo")
MODULES = Path("/sys/module")
QEMU = "qemu-system-x86_64"
#: Seconds for the first line of a kernel, for each of the probe's two processor models.
SECONDS = 10
# linux/kvm.h
_GET_API_VERSION = 0xAE00
_CREATE_VM = 0xAE01


@dataclass(frozen=True)
class Device:
    """State of /dev/kvm. ``error`` is empty when it opens and creates a machine."""

    exists: bool
    opens: bool
    api: int
    creates: bool
    error: str


@dataclass(frozen=True)
class Boot:
    """Result of booting a kernel under KVM; ``model`` is the QEMU CPU model that ran it."""

    works: bool
    model: str
    said: str
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """Everything about KVM on this machine; ``works`` is the live probe's result."""

    device: Device
    flags: tuple[str, ...]
    nested: bool
    boot: Boot | None

    @property
    def works(self) -> bool:
        """True when a kernel ran."""
        return self.boot is not None and self.boot.works

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.boot is None:
            return self.device.error
        if self.boot.works:
            return f"a kernel runs under KVM (CPU model {self.boot.model})"
        return f"{DEVICE} opens but no kernel runs under it: {self.boot.said}"


def device() -> Device:
    """Get the version of /dev/kvm and try to create a machine."""
    try:
        handle = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Device(False, False, 0, False, f"there is no {DEVICE}")
    except OSError as error:
        return Device(True, False, 0, False, f"{DEVICE} cannot be opened: {error.strerror}")
    try:
        api = fcntl.ioctl(handle, _GET_API_VERSION)
        os.close(fcntl.ioctl(handle, _CREATE_VM))
    except OSError as error:
        return Device(True, True, 0, False, f"{DEVICE} opens but cannot create a machine: {error.strerror}")
    finally:
        os.close(handle)
    return Device(True, True, api, True, "")


def cpu_flags() -> tuple[str, ...]:
    """The processor's flags for hardware virtualisation: vmx (Intel), svm (AMD), or none."""
    known = _cpuinfo("flags").split()
    return tuple(f for f in ("vmx", "svm") if f in known)


def processor() -> str:
    """The processor's model name."""
    return _cpuinfo("model name") or "unknown"


def _cpuinfo(key: str) -> str:
    found = re.search(rf"^{key}\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
    return found[1].strip() if found else ""


def nested() -> bool:
    """True when the loaded kvm module allows nested guests."""
    values = [MODULES / name / "parameters" / "nested" for name in ("kvm_intel", "kvm_amd")]
    return any(v.exists() and v.read_text().strip() in ("1", "Y") for v in values)


def examine(*, fresh: bool = False) -> Verdict:
    """Find out whether KVM works here; uses the result cached since boot, if any.

    :param fresh: probe again.
    """
    found = device()
    boot = None
    if found.creates and not process.missing(QEMU):
        boot = _boot(fresh)
    elif found.creates:
        found = Device(True, True, found.api, True, f"{QEMU} is not installed, so KVM was not probed")
    return Verdict(found, cpu_flags(), nested(), boot)


def _boot(fresh: bool) -> Boot:
    record = paths.home() / "kvm.json"
    key = f"{BOOT_ID.read_text().strip()} {os.geteuid()}"
    if not fresh:
        try:
            content = json.loads(record.read_text())
            if content.pop("key") == key:
                return Boot(**content)
        except (OSError, ValueError, LookupError, TypeError):
            pass  # no record yet, or from another version: probe
    try:
        vmlinuz = stock_kernel()
    except LabError as error:
        return Boot(False, "", f"not probed, since there is no kernel to boot: {error.message}", 0.0)
    boot = live_probe(vmlinuz)
    try:
        home.secure()
        files.write_atomic(record, json.dumps({"key": key, **asdict(boot)}, indent=1))
    except (LabError, PermissionError):  # a user who may open the device, but has no labctl home here
        return boot
    return boot


def stock_kernel() -> Path:
    """A kernel of the distribution: the one of labctl's virtual machines, else the running one.

    :raises LabError: neither is available.
    """
    try:
        return kernel.ensure() / "tree" / "vmlinuz"
    except (LabError, PermissionError) as error:
        running = Path("/boot") / f"vmlinuz-{os.uname().release}"
        if os.access(running, os.R_OK):
            return running
        raise error if isinstance(error, LabError) else LabError(str(error), "sudo labctl doctor") from error


def live_probe(vmlinuz: Path, *, qemu: str = QEMU, seconds: int = SECONDS) -> Boot:
    """Boot a kernel under KVM and wait for its first line of output."""
    began = time.monotonic()
    with step("host", "boot a kernel under KVM"):
        done = process.run(["sh", KVM_PROBE, qemu, vmlinuz, str(seconds)], timeout=2 * seconds + 30, check=False)
    word, _, said = done.stdout.strip().partition(": ")
    taken = round(time.monotonic() - began, 2)
    if done.returncode == 0 and word.startswith("works "):
        return Boot(True, word.removeprefix("works "), said, taken)
    return Boot(False, "", said or done.stderr.strip() or f"the probe failed with status {done.returncode}", taken)
