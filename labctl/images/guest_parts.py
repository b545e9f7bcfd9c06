"""The pieces of the guest built from Debian's packages: root tree, initramfs, partitions, disk.

The guest's own files lie beside this module: ``guest/initramfs.sh``, ``guest/syslinux.txt`` and the tree
``guest/root``, which mirrors the guest's root; ``.sh`` is dropped and means executable, ``.txt`` is dropped.

Layout of the disk: MBR, a FAT partition with syslinux, kernel and initramfs, and at the end the ext4 root, so
that the initramfs only has to change one number to let it grow with the flavor's disk.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, process
from labctl.images import initramfs, kernel, packages

FILES = Path(__file__).with_name("guest")
MBR_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
KERNEL = kernel.PACKAGE
PACKAGES = (
    "busybox-static", "dropbear-bin", "sudo", "e2fsprogs", "util-linux",
    "openssh-client", "openssh-sftp-server", "libpam-modules", "dhcpcd-base",
)  # fmt: skip
PROGRAMS = (
    "usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/bin/dbclient", "usr/bin/sudo", "usr/bin/scp",
    "usr/bin/lsblk", "usr/sbin/blkid", "usr/sbin/mke2fs", "usr/sbin/resize2fs", "usr/sbin/e2fsck",
    "usr/lib/openssh/sftp-server", "usr/sbin/dhcpcd",
)  # fmt: skip
LINKS = {
    "usr/bin/ssh": "dbclient",
    "usr/sbin/mkfs.ext2": "mke2fs",
    "usr/sbin/mkfs.ext3": "mke2fs",
    "usr/sbin/mkfs.ext4": "mke2fs",
    "usr/sbin/fsck.ext4": "e2fsck",
    "usr/lib/sftp-server": "openssh/sftp-server",
    "etc/mtab": "../proc/self/mounts",
}
# Loaded by the initramfs: what a nova disk is behind, and, only if that shows no root, the other buses.
FIRST_MODULES = ("virtio_pci", "virtio_blk")
REST_MODULES = ("virtio_scsi", "ata_piix", "sd_mod")
ROOT_MODULES = (
    "virtio_net", "virtio_rng", "virtio_balloon", "virtio_scsi", "sd_mod", "sr_mod", "ata_piix", "button", "evdev",
    "loop", "isofs", "vfat", "nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8", "8021q",
)  # fmt: skip
INITRAMFS_APPLETS = (
    "sh", "mount", "insmod", "dd", "cat", "usleep", "sync", "blockdev", "switch_root", "ls", "dmesg",
)  # fmt: skip
MULTIARCH = "x86_64-linux-gnu"
MIB = 1024 * 1024
SECTOR = 512
ROOT_MIB = 64
LABEL = "cirros-rootfs"


def download(directory: Path) -> list[Path]:
    """Download the packages and the libraries they need (only those: no debconf, perl, initramfs-tools).

    :raises LabError: apt does not know the packages, or cannot reach its archive.
    """
    return packages.download(sorted({kernel.package(KERNEL), *packages.with_libraries(PACKAGES)}), directory)


def assemble_root(root: Path, tree: Path, modules: kernel.Modules, version: str) -> None:
    """Lay out the guest's root: its own files, the programs and their libraries, busybox, kernel modules."""
    for name in packages.MERGED:
        files.make_directories(root / "usr" / name)
        files.link(root / name, f"usr/{name}")
    for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "etc/dropbear", "var/log", "var/lib",
                 "var/lib/dhcpcd", "var/tmp", "usr/local/bin", "home/cirros"):  # fmt: skip
        files.make_directories(root / name)
    files.link(root / "var/run", "../run")
    files.set_mode(root / "var/tmp", 0o1777)
    _place(FILES / "root", root)
    files.write_atomic(root / "etc/guest-version", f"{version}\n")

    plugins = [path.relative_to(tree) for path in _plugins(tree)]
    for program in (*map(Path, PROGRAMS), *plugins):
        _copy(tree / program, root / program)
    for library, source in _libraries(tree, (*map(Path, PROGRAMS), *plugins)):
        _copy(source, root / library)
    for link, target in LINKS.items():
        files.link(root / link, target)

    busybox = root / "usr/bin/busybox"
    _copy(tree / "usr/bin/busybox", busybox)
    for applet in process.output([busybox, "--list-full"]).split():
        path = root / "usr" / applet.removeprefix("usr/")
        if not path.is_symlink() and not path.exists():
            files.link(path, "/bin/busybox")
    files.set_mode(busybox, 0o4755)  # ping, su and passwd work for the user; busybox gives the rights up for all else
    # whoever looks for a config drive by its label may not read disks
    for privileged in ("usr/bin/sudo", "usr/sbin/blkid"):
        files.set_mode(root / privileged, 0o4755)
    files.set_mode(root / "etc/shadow", 0o600)
    files.set_mode(root / "etc/sudoers", 0o440)

    directory = root / "usr/lib/modules" / modules.release
    files.make_directories(directory)
    for name, content in modules.closure(ROOT_MODULES).items():
        files.write_atomic(directory / f"{name}.ko", content, within=directory)
    process.run([busybox, "depmod", "-b", root, modules.release])


def _place(source: Path, target: Path) -> None:
    """Copy the guest's own files: ``x.sh`` becomes an executable ``x``, ``x.txt`` a plain ``x``."""
    for path in source.rglob("*"):
        if path.suffix in (".sh", ".txt"):
            placed = target / path.relative_to(source).with_suffix("")
            files.make_directories(placed.parent)
            files.copy(path, placed, 0o755 if path.suffix == ".sh" else 0o644, within=target)


def _copy(source: Path, target: Path) -> None:
    files.make_directories(target.parent)
    files.copy(source, target, within=target.parent)


def _plugins(tree: Path) -> Iterator[Path]:
    """What programs load by name at run time: sudo's policy, and the PAM modules etc/pam.d names."""
    for name in ("sudo/*.so*", "*/security/pam_permit.so", "*/security/pam_deny.so"):
        yield from (*tree.glob(f"usr/lib/{name}"), *tree.glob(f"usr/libexec/{name}"))


def _libraries(tree: Path, programs: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (place in the guest, file) for every shared library of the programs, as the loader sees them."""
    places = ":".join(str(path) for path in (tree / f"usr/lib/{MULTIARCH}", *tree.glob("usr/lib*/sudo")))
    loader = tree / "usr/lib" / MULTIARCH / "ld-linux-x86-64.so.2"
    yield Path("usr/lib64/ld-linux-x86-64.so.2"), loader
    found: dict[str, Path] = {}
    for program in programs:
        text = process.output([loader, "--library-path", places, "--list", tree / program])
        if "not found" in text:
            raise LabError(f"Debian's packages lack a library of {program}:\n{text}", "apt-get update, then try again")
        found.update((name, Path(path)) for name, path in re.findall(r"(\S+) => (/\S+)", text))
    for name, source in found.items():
        if source.is_relative_to(tree / "usr/lib" / MULTIARCH):
            yield Path("usr/lib") / MULTIARCH / Path(name).name, source


def initrd(work: Path, tree: Path, modules: kernel.Modules) -> Path:
    """Pack busybox, the disk drivers and the init script; return the archive."""
    groups = {"first": modules.closure(FIRST_MODULES), "rest": modules.closure(REST_MODULES)}
    return initramfs.pack(work, tree / "usr/bin/busybox", INITRAMFS_APPLETS, FILES / "initramfs.sh", groups)


def boot_partition(image: Path, vmlinuz: Path, initrd: Path, menu: Path = FILES / "syslinux.txt") -> Path:
    """Make the FAT file system with syslinux, from which the BIOS boots.

    :param menu: syslinux's configuration.
    """
    size = (vmlinuz.stat().st_size + initrd.stat().st_size) // MIB + 4
    with files.replacing(image, within=image.parent) as blank:
        blank.truncate(size * MIB)
    hidden = str(MIB // SECTOR)  # sectors before the partition
    process.run(["mformat", "-i", image, "-T", str(size * MIB // SECTOR), "-h", "64", "-s", "32", "-H", hidden, "::"])
    for source, name in ((vmlinuz, "vmlinuz"), (initrd, "initrd"), (menu, "syslinux.cfg")):
        process.run(["mcopy", "-i", image, source, f"::{name}"])
    process.run(["syslinux", "--install", image])
    return image


def root_partition(image: Path, root: Path) -> Path:
    """Make the ext4 root. Owners are set in the image, so that building it does not need to be root."""
    process.run(
        ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-i", "8192", "-m", "1", "-J", "size=4", "-L", LABEL,
         "-d", root, image, f"{ROOT_MIB}M"],
    )  # fmt: skip
    lines = []
    for path in (root, *sorted(root.rglob("*"))):
        name = path.relative_to(root)
        owner = 1000 if name.is_relative_to("home/cirros") else 0
        lines += [f'sif "/{name}" uid {owner}', f'sif "/{name}" gid {owner}']
    process.run(["debugfs", "-w", "-f", "-", image], stdin="\n".join(lines) + "\n")
    return image


def write_disk(disk: Path, boot: Path, root: Path) -> None:
    """Put MBR, boot partition and root partition, each on a MiB, into one raw disk."""
    table, start = b"", MIB
    with files.replacing(disk, within=disk.parent) as target:
        for active, kind, part in ((0x80, 0x0E, boot), (0, 0x83, root)):
            size = part.stat().st_size
            # No cylinders, heads, sectors: everything that boots this reads the two 32-bit numbers.
            table += struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff",
                                 start // SECTOR, size // SECTOR)  # fmt: skip
            target.seek(start)
            with part.open("rb") as source:
                while chunk := source.read(MIB):
                    if chunk.strip(b"\0"):
                        target.write(chunk)
                    else:
                        target.seek(len(chunk), os.SEEK_CUR)  # a hole
            start += size
        target.truncate(start)
        target.seek(0)
        target.write(MBR_CODE.read_bytes().ljust(446, b"\0")[:446] + table.ljust(64, b"\0") + b"\x55\xaa")
