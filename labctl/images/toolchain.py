"""Compiler and headers on top of a system layer: needed while projects are built, in no node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.images import apt, debian, stack, store
from labctl.images.chroot import Chroot
from labctl.progress import step

#: Raise when the steps below change what is in the layer.
RECIPE_VERSION = 2
#: libvirt-python, pyeclib, cryptography and its like, uWSGI, and compiled parts of pure packages.
PACKAGES = (
    "g++",
    "gcc",
    "libc6-dev",
    "liberasurecode-dev",
    "libffi-dev",
    "libssl-dev",
    "libvirt-dev",
    "libxml2-dev",
    "libxslt1-dev",
    "pkg-config",
    "zlib1g-dev",
)


def ensure(system: tuple[Path, ...]) -> Path:
    """Return the layer with a compiler for a system's layers, installing it when needed.

    :param system: the uppermost first.
    """
    inputs = {
        "version": RECIPE_VERSION,
        "system": [store.identity(layer) for layer in system],
        "packages": sorted(PACKAGES),
    }
    return store.ensure(store.Recipe("toolchain", inputs), lambda work: _build(system, work))


def _build(system: tuple[Path, ...], work: Path) -> dict[str, Any]:
    archive, log = apt.Archive.here(), store.log_of(work)
    inside = Chroot(system, work / "build", log=log)
    with step("image", "download packages to build with"):
        archive.fetch(PACKAGES, log, stack.dpkg_status(system))
    with step("image", f"install {len(PACKAGES)} packages to build with"):
        archive.install(inside, PACKAGES)
    debian.finish(inside, work)
    return {}
