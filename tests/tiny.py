"""A tree of a few megabytes for machines of driver tests: busybox, and dropbear where a node has OpenSSH.

It goes the way of every golden tree: into the store, into a VM's disk, under a seed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from labctl.host import process
from labctl.images import box, packages, store

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
    _write(tree, FILES)
    for name in ("usr/share/doc", "usr/share/man"):
        shutil.rmtree(tree / name, ignore_errors=True)
    return {}


#: Besides, in a box for Vagrant: its user (root by another name), sudo for whom nothing is left to do, scp.
BOX_PACKAGES = ("openssh-client",)
SUDO = """#!/bin/sh
while :; do
    case $1 in -p | -u) shift 2 ;; -*) shift ;; *) break ;; esac
done
exec "$@"
"""
BECOME = """#!/bin/sh
hostname -F /etc/hostname
while read -r line; do
    case $line in *replace*) ip $line || ip ${line%%replace*}add${line#*replace} ;; ?*) ip $line ;; esac
done </etc/labctl/network
dropbearconvert openssh dropbear /etc/ssh/ssh_host_ed25519_key /etc/dropbear/key
# those who are logged in stay; init starts the listening one again, with the new key
kill "$(cat /run/dropbear.pid)"
"""
BOX_RC = """#!/bin/sh
mkdir -p /dev/pts /run /tmp /etc/dropbear /var/lib
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
hostname -F /etc/hostname
modprobe -a button evdev
ip link set lo up
ip link set vagrant0 up
[ ! -e /etc/labctl/network ] || while read -r line; do
    case $line in *replace*) ip $line || ip ${line%%replace*}add${line#*replace} ;; ?*) ip $line ;; esac
done </etc/labctl/network
[ -e /etc/dropbear/key ] || dropbearkey -t ecdsa -f /etc/dropbear/key
udhcpc -i vagrant0 -s /etc/udhcpc -t 30 -T 1 -n -q
echo "$(hostname) is up"
"""
UDHCPC = """#!/bin/sh
[ "$1" = bound ] && ip address add "$ip/$mask" dev "$interface"
"""
BOX_FILES = {
    "etc/rc": (BOX_RC, 0o755),
    "etc/udhcpc": (UDHCPC, 0o755),
    "etc/hostname": ("tiny\n", 0o644),
    "etc/inittab": (INITTAB.replace("-F -E", "-F -E -P /run/dropbear.pid"), 0o644),
    "etc/passwd": ("root:*:0:0:root:/root:/bin/sh\nvagrant:*:0:0:vagrant:/vagrant-home:/bin/sh\n", 0o644),
    "usr/bin/sudo": (SUDO, 0o755),
    "usr/local/sbin/labctl-node": (BECOME, 0o755),
    "vagrant-home/.ssh/authorized_keys": ((box.FILES / "authorized_keys.txt").read_text(), 0o600),
}


def box_layers() -> tuple[Path, ...]:
    """The layers of a tree that Vagrant can use, the uppermost first."""
    inputs = {
        "version": 1,
        "packages": BOX_PACKAGES,
        "files": {path: list(value) for path, value in BOX_FILES.items()},
    }
    return (store.ensure(store.Recipe("tinybox", inputs), _build_box), ensure())


def _build_box(work: Path) -> dict[str, Any]:
    tree = work / "tree"
    packages.unpack(packages.download(packages.with_libraries(BOX_PACKAGES), work / "debs"), tree)
    shutil.rmtree(work / "debs")
    _write(tree, BOX_FILES)
    for name in ("usr/share", "etc/ssh"):
        shutil.rmtree(tree / name, ignore_errors=True)
    return {}


def _write(tree: Path, files: dict[str, tuple[str, int]]) -> None:
    for name, (content, mode) in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
