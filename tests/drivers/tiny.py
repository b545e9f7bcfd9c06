"""A tree of a few megabytes for machines of driver tests: busybox, and dropbear where a node has OpenSSH.

It goes the way of every golden tree: into the store, into a VM's disk, under a seed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from labctl import process
from labctl.images import packages, store

PACKAGES = ("busybox-static", "dropbear-bin")
INITTAB = """\
::sysinit:/etc/rc
::respawn:/usr/sbin/dropbear -F -E -r /etc/dropbear/key
::respawn:/sbin/acpid -d -c /etc/acpi
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/sync
::shutdown:/bin/mount -o remount,ro /
"""
RC = """#!/bin/sh
mkdir -p /dev/pts /run /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
hostname -F /etc/hostname
modprobe -a button evdev
while read -r line; do
    case $line in *replace*) ip $line || ip ${line%%replace*}add${line#*replace} ;; ?*) ip $line ;; esac
done </etc/labctl/network
mkdir -p /etc/dropbear
dropbearconvert openssh dropbear /etc/ssh/ssh_host_ed25519_key /etc/dropbear/key
echo "$(hostname) is up"
"""
FILES = {
    "etc/inittab": (INITTAB, 0o644),
    "etc/rc": (RC, 0o755),
    "etc/acpi/PWRF/00000080": ("#!/bin/sh\nexec poweroff\n", 0o755),
    "etc/passwd": ("root:*:0:0:root:/root:/bin/sh\n", 0o644),
    "etc/group": ("root:x:0:\n", 0o644),
    "etc/shells": ("/bin/sh\n", 0o644),
    "etc/nsswitch.conf": ("passwd: files\ngroup: files\n", 0o644),
}


def ensure() -> Path:
    """The tree's layer in the store."""
    inputs = {"version": 1, "packages": PACKAGES, "files": {path: list(value) for path, value in FILES.items()}}
    return store.ensure(store.Recipe("tiny", inputs), _build)


def _build(work: Path) -> dict[str, Any]:
    tree = work / "tree"
    packages.unpack(packages.download(packages.with_libraries(PACKAGES), work / "debs"), tree)
    shutil.rmtree(work / "debs")
    for name in ("dev", "proc", "sys", "run", "tmp", "root", "new"):
        (tree / name).mkdir(exist_ok=True)
    for applet in process.output([tree / "usr/bin/busybox", "--list-full"]).split():
        path = tree / "usr" / applet.removeprefix("usr/")
        if not path.is_symlink() and not path.exists():
            path.symlink_to("/bin/busybox")
    for name, (content, mode) in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    for name in ("usr/share/doc", "usr/share/man"):
        shutil.rmtree(tree / name, ignore_errors=True)
    return {}
