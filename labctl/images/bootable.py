"""A disk that boots by itself: MBR, a FAT partition with syslinux and the kernel, and a golden tree as the ext4 root.

Its initramfs is labctl's own: what every such disk does at its begin and end lies beside this module, what one kind of
disk does between is given by its loader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl.host import files
from labctl.host.sparse import used
from labctl.images import guest_parts, initramfs, kernel, vm
from labctl.progress import step

FILES = Path(__file__).with_name("bootable")
MENU = FILES / "syslinux.txt"
#: Needed to write a disk; Debian's packages of them.
PROGRAMS = ("mformat", "mcopy", "syslinux", "qemu-img", "mke2fs", "cpio")
PACKAGES = "mtools syslinux syslinux-common qemu-utils e2fsprogs cpio"
APPLETS = (
    "sh", "mount", "insmod", "dd", "cat", "usleep", "sync", "blockdev", "poweroff", "switch_root", "ls", "dmesg",
)  # fmt: skip


@dataclass(frozen=True)
class Loader:
    """What makes a disk's machine what it is before its root starts: a script, the modules and applets it needs."""

    script: Path
    modules: tuple[str, ...]
    applets: tuple[str, ...]

    def inputs(self) -> dict[str, object]:
        """What a disk's recipe says of it."""
        parts = (FILES / "disk.sh", self.script, FILES / "start.sh", MENU)
        return {
            "files": {path.name: path.read_text() for path in parts},
            "modules": self.modules,
            "applets": self.applets,
            "fstab": vm.FSTAB,
        }


def write(
    work: Path,
    layers: tuple[Path, ...],
    boot: Path,
    loader: Loader,
    complete: Callable[[Path], None] = lambda addition: None,
) -> tuple[Path, dict[str, object]]:
    """Write the raw disk of a tree into ``work``; return it, and what a manifest says of it.

    :param layers: the tree's layers, uppermost first.
    :param boot: the kernel's image in the store.
    :param complete: adds files of its own to a directory that is laid over the tree.
    """
    modules = kernel.Modules(boot / "tree", kernel.release(boot))
    addition = work / "addition"
    vm.complete(addition, layers, boot, modules)
    complete(addition)
    trees = [addition, *(layer / "tree" for layer in layers)]
    size = used(*trees)
    with step("image", f"write a file system of {size // vm.MIB} MiB"):
        root = vm.file_system(trees, modules.release, size, work)
    files.erase(addition)
    initrd = _initrd(work, boot, loader, modules)
    first = guest_parts.boot_partition(work / "boot.img", boot / "tree/vmlinuz", initrd, MENU)
    raw = work / "disk.img"
    guest_parts.write_disk(raw, first, root)
    for path in (root, first, initrd):
        files.erase(path)
    return raw, {"kernel": modules.release, "used": size}


def _initrd(work: Path, boot: Path, loader: Loader, modules: kernel.Modules) -> Path:
    init = work / "init.sh"
    parts = (FILES / "disk.sh", loader.script, FILES / "start.sh")
    files.write_atomic(init, "".join(part.read_text() for part in parts))
    groups = {"all": modules.closure(loader.modules)}
    applets = (*APPLETS, *loader.applets)
    packed = initramfs.pack(work / "initramfs", boot / "tree/busybox", applets, init, groups)
    for path in (init, work / "initramfs", work / "initramfs.cpio"):
        files.erase(path)
    return packed
