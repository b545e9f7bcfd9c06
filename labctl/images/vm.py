"""Virtual machine images: a golden tree as ext4 in a qcow2 disk, with the kernel and initramfs that boot it.

The image has nothing specific to a machine; that comes from the machine's seed, a NoCloud ISO. Cloud images read it
with cloud-init; labctl's own trees with a few lines in their initramfs, which unpack ``node.tar`` over the root when
its mark differs from the disk's.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.host import files, process, qcow2
from labctl.host.overlay import escaped
from labctl.host.sparse import used
from labctl.images import initramfs, iso, kernel, store
from labctl.progress import step

FILES = Path(__file__).with_name("vm")
#: Increment when the steps below change the content of the image.
RECIPE_VERSION = 2
#: Serial numbers of the disks that every machine has; names of additional disks have no underscore.
ROOT_SERIAL, SEED_SERIAL = "_root", "_seed"
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "isofs")
APPLETS = (
    "sh", "mount", "umount", "insmod", "cat", "usleep", "mkdir", "cmp", "cp", "tar", "sync", "poweroff",
    "switch_root", "ls", "dmesg",
)  # fmt: skip
#: The disk has only this file system and no partitions, so it grows with the disk.
FSTAB = "LABEL=root / ext4 noatime,x-systemd.growfs 0 0\n"
#: No login on the serial line: no account has a password.
MASKED = ("serial-getty@ttyS0.service",)
MIB = 2**20


def recipe(layers: tuple[Path, ...], boot: Path) -> store.Recipe:
    """What an image is built from: the layers of a golden tree, and the kernel image."""
    own = {path.name: path.read_text() for path in sorted(FILES.iterdir())}
    inputs = {
        "version": RECIPE_VERSION,
        "layers": [layer.name for layer in layers],
        "kernel": boot.name,
        "files": own,
        "modules": MODULES,
        "fstab": FSTAB,
        "masked": MASKED,
    }
    return store.Recipe("vm", inputs)


@store.keeping()
def ensure(layers: tuple[Path, ...]) -> Path:
    """Return the image of a golden tree, building it if missing.

    Its ``tree`` holds ``disk.qcow2``, ``vmlinuz`` and ``initrd``.

    :param layers: the tree's layers, uppermost first.
    :raises LabError: the kernel is unavailable, or the disk is full.
    """
    boot = kernel.ensure()
    return store.ensure(recipe(layers, boot), lambda work: _build(layers, boot, work), over=(boot, *layers))


def _build(layers: tuple[Path, ...], boot: Path, work: Path) -> dict[str, Any]:
    tree = work / "tree"
    files.new_directory(tree)
    modules = kernel.Modules(boot / "tree", kernel.release(boot))
    files.copy(boot / "tree/vmlinuz", tree / "vmlinuz", 0o644)
    groups = {"all": modules.closure(MODULES)}
    initrd = initramfs.pack(work / "initramfs", boot / "tree/busybox", APPLETS, FILES / "initramfs.sh", groups)
    files.move(initrd, tree / "initrd")
    files.erase(work / "initramfs")
    files.erase(work / "initramfs.cpio")

    complete(work / "addition", layers, boot, modules)
    trees = [work / "addition", *(layer / "tree" for layer in layers)]
    size = used(*trees)
    with step("image", f"write a file system of {size // MIB} MiB"):
        raw = file_system(trees, modules.release, size, work)
        process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, tree / "disk.qcow2"], timeout=900)
        files.erase(raw)
    files.erase(work / "addition")
    return {"kernel": modules.release, "used": size}


def complete(addition: Path, layers: tuple[Path, ...], boot: Path, modules: kernel.Modules) -> None:
    """Add what a tree needs to boot with its own kernel."""
    files.copy_tree(modules.base, addition / "usr/lib/modules" / modules.release)
    files.new_directory(addition / "boot")
    # for the compute node's own KVM probe
    files.copy(boot / "tree/vmlinuz", addition / "boot" / f"vmlinuz-{modules.release}", 0o644)
    files.new_directory(addition / "etc")
    files.write_atomic(addition / "etc/fstab", FSTAB)
    units = "etc/systemd/system"
    if any((layer / "tree" / units).is_dir() for layer in layers):
        wants = addition / units / "multi-user.target.wants"
        files.make_directories(wants)
        files.copy(FILES / "network.service.txt", addition / units / "labctl-network.service", 0o644)
        files.link(wants / "labctl-network.service", "../labctl-network.service")
        for name in MASKED:
            files.link(addition / units / name, "/dev/null")


#: Runs in its own mount namespace, so that a killed build leaves no mounts.
_WRITE = """set -eu
release=$1 lower=$2
shift 2
mkdir root upper scratch
mount -t overlay labctl-image -o "lowerdir=$lower,upperdir=upper,workdir=scratch" root
# often a link, which leads to its program only inside
for depmod in root/usr/sbin/depmod root/sbin/depmod; do
    if [ -e $depmod ] || [ -L $depmod ]; then
        chroot root depmod "$release"
        break
    fi
done
"$@"
umount root
rm -rf root upper scratch
"""


def file_system(trees: list[Path], release: str, size: int, work: Path) -> Path:
    """Write stacked trees as an ext4 with a quarter plus 256 MiB of free space; return the raw file.

    :param release: the kernel release to run depmod for.
    :param size: bytes that the trees take.
    :param work: a directory on the host for the file ``disk.raw``.
    """
    room = (size + size // 4) // MIB + 256
    # the inode tables of a new file are already zero, and a lab does not need reserved blocks
    options = ["-q", "-t", "ext4", "-m", "0", "-L", "root", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
    write = ["mke2fs", *options, "-J", "size=64", "-d", "root", "disk.raw", f"{room}M"]
    lower = ":".join(map(escaped, trees))
    process.run(["unshare", "--mount", "sh", "-c", _WRITE, "sh", release, lower, *write], cwd=work, timeout=1800)
    return work / "disk.raw"


def disk_size(image: Path) -> int:
    """The virtual size of an image's disk in bytes."""
    return qcow2.read(image / "tree/disk.qcow2").size


def node_archive(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A tar archive of files owned by root: path -> content and mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (content, mode) in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def seed(files: Mapping[str, bytes]) -> bytes:
    """An ISO image with the label ``cidata``, for cloud-init's NoCloud data source."""
    return iso.build("cidata", files)
