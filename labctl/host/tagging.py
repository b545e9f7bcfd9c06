"""VLAN tags of a lab's network, where a card without a tag meets a bridge whose frames have one.

The kernel's own device for VLANs (8021q) does it where there is one. Some kernels are built without, and without
filtering of VLANs by bridges; there two programs of the packet classifier push and pop the tags at a bridge's port
(linux: tc-bpf(8), bpf-helpers(7)). As a program of its own, this module installs them: it needs a file system of the
kernel's, which it mounts where nobody else sees it, so that nothing of it outlives the process.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

from labctl.errors import LabError
from labctl.host import process

#: The number of the system call ``bpf``, and its commands (linux: include/uapi/linux/bpf.h).
_CALL = {"x86_64": 321, "aarch64": 280}
_LOAD, _PIN = 5, 6
_CLASSIFIER = 3
_PUSH, _POP = 18, 19
#: Verdicts of a classifier: let the frame pass, or drop it.
_PASS, _DROP = 0, 2
#: Offsets in ``struct __sk_buff``.
_TAGGED, _TAG = 20, 24


def kernel_has_devices() -> bool:
    """True if the kernel has devices for VLANs, or their module, which it loads itself when one is made."""
    if Path("/proc/net/vlan").exists():
        return True
    asked = ["modprobe", "--dry-run", "-q", "8021q"]
    return not process.missing("modprobe") and process.run(asked, check=False).returncode == 0


def attach(namespace: str, bridge: str, device: str, tag: int, mtu: int) -> None:
    """Create a device whose frames have a VLAN tag on a bridge and none here, and bring it up.

    :param mtu: bytes of its largest packet.
    :raises LabError: the kernel can do it in neither way.
    """
    inside = ["ip", "-n", namespace, "link"]
    if kernel_has_devices():
        words = ["add", "link", bridge, "name", device, "mtu", str(mtu), "type", "vlan", "id", str(tag)]
        process.run([*inside, *words])
    else:
        _by_programs(namespace, bridge, device, tag, mtu)
    process.run([*inside, "set", device, "up"])


def _by_programs(namespace: str, bridge: str, device: str, tag: int, mtu: int) -> None:
    """A cable to the bridge, with programs at the bridge's end that push and pop the tag."""
    port = f"{device}-p"
    lines = (
        f"link add name {device} mtu {mtu} type veth peer name {port} mtu {mtu}",
        f"link set {port} master {bridge}",
        f"link set {port} up",
    )
    process.run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")
    words = [sys.executable, "-m", "labctl.host.tagging", namespace, port, str(tag)]
    done = process.run(["unshare", "--mount", *words], check=False)
    if done.returncode != 0:
        raise LabError(
            f"VLAN {tag} of {bridge}: the kernel has no device for VLANs, and no program for them can be loaded: "
            f"{(done.stderr.strip().splitlines() or ['no reason given'])[-1]}",
            "modprobe 8021q",
        )


# --- the programs ----------------------------------------------------------------------------------


def _instruction(operation: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", operation, target | source << 4, offset, value)


def _move(register: int, value: int) -> bytes:
    return _instruction(0xB7, register, value=value)


def _load(register: int, offset: int) -> bytes:
    return _instruction(0x61, register, 1, offset)


def _call(helper: int) -> bytes:
    return _instruction(0x85, value=helper)


def _answer(verdict: int) -> bytes:
    return _move(0, verdict) + _instruction(0x95)


def push(tag: int) -> bytes:
    """A program that gives each frame the tag (802.1Q; its number has the network's order of bytes)."""
    return _move(2, 0x0081) + _move(3, tag) + _call(_PUSH) + _answer(_PASS)


def pop(tag: int) -> bytes:
    """A program that takes the tag off frames that have it, and drops all others."""
    jump_if_equal, jump_unless_equal, mask = 0x15, 0x55, 0x57
    return b"".join(
        (
            _load(2, _TAGGED),
            _instruction(jump_if_equal, 2, offset=6, value=0),
            _load(2, _TAG),
            _instruction(mask, 2, value=0xFFF),
            _instruction(jump_unless_equal, 2, offset=3, value=tag),
            _call(_POP),
            _answer(_PASS),
            _answer(_DROP),
        )
    )


def _bpf(command: int, attributes: bytes) -> int:
    size = 128
    buffer = ctypes.create_string_buffer(attributes.ljust(size, b"\0"), size)
    found = ctypes.CDLL(None, use_errno=True).syscall(_CALL[platform.machine()], command, buffer, size)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf: {os.strerror(number)}")
    return int(found)


def _pinned(code: bytes, path: str) -> None:
    """Load a program, and give it a name in the kernel's file system."""
    text, license_ = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    where = (ctypes.addressof(text), ctypes.addressof(license_))
    handle = _bpf(_LOAD, struct.pack("<IIQQ", _CLASSIFIER, len(code) // 8, *where))
    name = ctypes.create_string_buffer(path.encode())
    _bpf(_PIN, struct.pack("<QI", ctypes.addressof(name), handle))


def main(namespace: str, port: str, tag: int) -> None:
    """Install the programs at a bridge's port; in a mount namespace of its own.

    :raises OSError: the kernel refuses a program.
    """
    directory = "/mnt"  # of this process alone
    process.run(["mount", "-t", "bpf", "bpf", directory])
    process.run(["tc", "-n", namespace, "qdisc", "add", "dev", port, "clsact"])
    for hook, code in (("ingress", push(tag)), ("egress", pop(tag))):
        _pinned(code, f"{directory}/{hook}")
        words = ["tc", "-n", namespace, "filter", "add", "dev", port, hook, "bpf", "direct-action"]
        process.run([*words, "object-pinned", f"{directory}/{hook}"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
