"""The gateway of a lab on a cloud: busybox, OpenSSH, and a script that joins a tunnel with one of the lab's networks.

It is a tree of a few megabytes, which boots in seconds also where machines are emulated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.host import files, process
from labctl.images import cloud, packages, store

FILES = Path(__file__).with_name("gateway")
#: Increment when the steps below change the content of the tree.
RECIPE_VERSION = 1
PACKAGES = ("busybox-static", "openssh-server")
#: file beside this module -> its path in the tree, and its mode
PLACES = {
    "inittab.txt": ("etc/inittab", 0o644),
    "rc.sh": ("etc/rc", 0o755),
    "sshd_config.txt": ("etc/ssh/sshd_config", 0o644),
    "join.sh": ("usr/sbin/labctl-join", 0o755),
    "passwd.txt": ("etc/passwd", 0o644),
    "group.txt": ("etc/group", 0o644),
}
#: Where its own files are, in the user data of its server.
HOST_KEY, KEYS, CARDS = "etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys", "etc/labctl/network"


def ensure() -> Path:
    """Return the image of a gateway in the store, building it if missing.

    :raises LabError: as :func:`labctl.images.cloud.ensure`.
    """
    inputs = {
        "version": RECIPE_VERSION,
        "packages": PACKAGES,
        "files": {name: (FILES / name).read_text() for name in PLACES},
    }
    return cloud.ensure((store.ensure(store.Recipe("gateway", inputs), _build),))


def _build(work: Path) -> dict[str, Any]:
    tree = work / "tree"
    packages.unpack(packages.download(packages.with_libraries(PACKAGES), work / "debs"), tree)
    files.erase(work / "debs")
    for name in ("dev", "proc", "sys", "run", "tmp", "root/.ssh", "etc/labctl"):
        files.make_directories(tree / name)
    files.set_mode(tree / "root/.ssh", 0o700)
    for applet in process.output([tree / "usr/bin/busybox", "--list-full"]).split():
        path = tree / "usr" / applet.removeprefix("usr/")
        if not path.is_symlink() and not path.exists():
            files.link(path, "/bin/busybox")
    for name in ("usr/share/doc", "usr/share/man"):
        files.erase(tree / name)
    for name, (place, mode) in PLACES.items():
        files.make_directories((tree / place).parent)
        files.copy(FILES / name, tree / place, mode, within=tree)
    return {}
