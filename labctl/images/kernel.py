"""The kernel of virtual machines: Debian's cloud kernel, which has virtio, Open vSwitch, device mapper and iSCSI.

It lies in the store as ``tree/vmlinuz`` and ``tree/usr/lib/modules/RELEASE``, with ``tree/busybox`` for what runs
before the root file system is there. It is booted directly, so that no boot loader has to be installed, and a
machine starts within seconds even under emulation.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labctl.host import files
from labctl.images import packages, store

PACKAGE = "linux-image-cloud-amd64"
BUSYBOX = "busybox-static"
#: Raise when the steps below change what is in the tree.
RECIPE_VERSION = 1


def package(meta: str = PACKAGE) -> str:
    """The package that holds the kernel itself: the one on which the meta package depends."""
    return next((name for name in sorted(packages.depends([meta])) if name.startswith("linux-image-")), meta)


def find(tree: Path) -> tuple[str, Path]:
    """Return the release and the file of the kernel in an unpacked tree."""
    image = next((tree / "boot").glob("vmlinuz-*"))
    return image.name.removeprefix("vmlinuz-"), image


class Modules:
    """The kernel's modules: finds them by name and what they depend on by their own ``.modinfo``."""

    def __init__(self, tree: Path, release: str) -> None:
        self.release = release
        self.base = tree / "usr/lib/modules" / release
        files = (*self.base.rglob("*.ko"), *self.base.rglob("*.ko.xz"))
        self._files = {self._key(path.name.split(".")[0]): path for path in files}

    @staticmethod
    def _key(name: str) -> str:
        return name.replace("-", "_")

    def _content(self, name: str) -> bytes:
        path = self._files[name]
        content = path.read_bytes()
        return lzma.decompress(content) if path.suffix == ".xz" else content

    def closure(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of modules and their dependencies in an order in which they can be loaded.

        What this kernel has built in, or does not have at all, is left out.
        """
        found: dict[str, bytes] = {}

        def visit(name: str) -> None:
            key = self._key(name)
            if key in found or key not in self._files:
                return
            content = self._content(key)
            depends = re.search(rb"\0depends=([^\0]+)\0", content)
            for needed in depends[1].decode().split(",") if depends else ():
                visit(needed)
            found[key] = content

        for name in names:
            visit(name)
        return found


def release(image: Path) -> str:
    """The release of the kernel in an image that :func:`ensure` returned."""
    return next((image / "tree/usr/lib/modules").iterdir()).name


def ensure() -> Path:
    """Return the store's image of the kernel, fetching the newest when there is none.

    :raises LabError: there is no apt, or its archive cannot be reached, and the store has no kernel.
    """
    recipe = store.Recipe("kernel", {"version": RECIPE_VERSION, "packages": [PACKAGE, BUSYBOX]})
    return store.ensure(recipe, _build)


def _build(work: Path) -> dict[str, Any]:
    tree, unpacked = work / "tree", work / "unpacked"
    found = packages.download((package(), BUSYBOX), work / "debs")
    versions = [path.stem for path in found]
    packages.unpack(found, unpacked)
    release, image = find(unpacked)
    modules = tree / "usr/lib/modules" / release
    files.make_directories(modules.parent)
    files.move(unpacked / "usr/lib/modules" / release, modules)
    files.move(image, tree / "vmlinuz")
    files.move(unpacked / "usr/bin/busybox", tree / "busybox")
    for leftover in (unpacked, work / "debs"):
        files.erase(leftover)
    return {"release": release, "packages": versions}
