"""Images for an OpenStack cloud: a golden tree as a disk that boots anywhere, made a node by its configuration drive.

The user data of a server is an archive with the node's own files, which the initramfs unpacks over the root
(``cloud/seed.sh``), as the seed of a virtual machine under libvirt.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files, process
from labctl.images import bootable, kernel, store, vm

FILES = Path(__file__).with_name("cloud")
#: Increment when the steps below change the content of an image.
RECIPE_VERSION = 1
#: What nova puts disks and configuration drives behind: virtio, virtio-scsi, IDE, SATA; the drive is ISO 9660 or FAT.
MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_scsi", "ata_piix", "ahci", "sd_mod", "sr_mod",
    "isofs", "vfat", "nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8",
)  # fmt: skip
LOADER = bootable.Loader(FILES / "seed.sh", MODULES, ("mkdir", "umount", "cmp", "cp", "rm", "tar", "gunzip"))
DISK = "disk.qcow2"
#: Nova's limit of user data in bytes, before it is encoded (api-ref/compute, "user_data").
LARGEST_USER_DATA = 65535 * 3 // 4


@store.keeping()
def ensure(layers: tuple[Path, ...]) -> Path:
    """Return the store's image of a golden tree, building it if missing; its ``tree`` holds ``disk.qcow2``.

    :param layers: the tree's layers, uppermost first.
    :raises LabError: a program is missing, the kernel is unavailable, or the disk is full.
    """
    if absent := process.missing(*bootable.PROGRAMS):
        raise LabError(
            f"an image for a cloud needs {', '.join(absent)}",
            f"apt-get install --no-install-recommends {bootable.PACKAGES}",
        )
    boot = kernel.ensure()
    inputs = {
        "version": RECIPE_VERSION,
        "layers": [layer.name for layer in layers],
        "kernel": boot.name,
        "loader": LOADER.inputs(),
    }
    return store.ensure(store.Recipe("cloud", inputs), lambda work: _build(layers, boot, work), over=(boot, *layers))


def _build(layers: tuple[Path, ...], boot: Path, work: Path) -> dict[str, Any]:
    files.new_directory(work / "tree")
    raw, facts = bootable.write(work, layers, boot, LOADER)
    options = ["-c", "-o", "compression_type=zlib", "-W", "-m", "2"]  # zstd: only from QEMU 5.1 on
    process.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, work / "tree" / DISK], timeout=1800)
    files.erase(raw)
    return facts


def user_data(mark: str, content: Mapping[str, tuple[bytes, int]]) -> bytes:
    """The user data that makes a server of such an image a machine of its own.

    :param mark: what the disk keeps of it: the same again changes nothing.
    :param content: files of the machine alone: path -> content and mode.
    :raises LabError: it is more than nova takes.
    """
    parts = {"mark": (mark.encode(), 0o600), "node.tar": (vm.node_archive(content), 0o600)}
    data = gzip.compress(vm.node_archive(parts), mtime=0)
    if len(data) > LARGEST_USER_DATA:
        raise LabError(f"the files of a node take {len(data)} bytes of user data; nova takes {LARGEST_USER_DATA}")
    return data
