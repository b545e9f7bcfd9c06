"""Compiler and headers on top of a system layer: needed to build projects, not in nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.images import apt, debian, stack, store
from labctl.images.chroot import Chroot
from labctl.progress import step

#: Increment when the steps below change the content of the layer.
RECIPE_VERSION = 2
#: For libvirt-python, pyeclib, cryptography and the like, uWSGI, and compiled parts of pure packages.
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


def ensure(system: tuple[Path, ...], suite: str) -> Path:
    """Return the layer with a compiler for a system's layers, installing it if needed.

    :param system: uppermost first.
    :param suite: of the mirror, which the system is from.
    """
    inputs = {
        "version": RECIPE_VERSION,
        "system": [store.identity(layer) for layer in system],
        "packages": sorted(PACKAGES),
    }
    return store.ensure(store.Recipe("toolchain", inputs), lambda work: _build(system, suite, work), over=system)


def _build(system: tuple[Path, ...], suite: str, work: Path) -> dict[str, Any]:
    archive, log = apt.Archive.here(suite), store.log_of(work)
    inside = Chroot(system, work / "build", log=log)
    with step("image", "download build packages"):
        archive.fetch(PACKAGES, log, stack.dpkg_status(system))
    with step("image", f"install {len(PACKAGES)} build packages"):
        archive.install(inside, PACKAGES)
    debian.finish(inside, work)
    return {}
