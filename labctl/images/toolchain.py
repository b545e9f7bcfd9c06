"""Compiler and headers on top of a system layer: needed while projects are built, in no node."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from labctl.images import store
from labctl.images.chroot import Bind, Chroot
from labctl.progress import step

#: Raise when the steps below change what is in the layer.
RECIPE_VERSION = 1
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


def ensure(system: Path) -> Path:
    """Return the layer with a compiler for a system layer, installing it when needed."""
    inputs = {"version": RECIPE_VERSION, "system": system.name, "packages": sorted(PACKAGES)}
    return store.ensure(store.Recipe("toolchain", inputs), lambda work: _build(system, work))


def _build(system: Path, work: Path) -> dict[str, Any]:
    # the sources, keys and proxies are the machine's own
    binds = tuple(Bind(Path(p)) for p in ("/etc/apt", "/etc/resolv.conf", "/etc/hosts") if Path(p).exists())
    inside = Chroot((system,), work / "build", binds, log=work / "build.log")
    with step("image", f"install {len(PACKAGES)} packages to build with"):
        inside.run("apt-get", "-q", "update", timeout=300)
        inside.run(
            "apt-get",
            "-q",
            "install",
            "-y",
            "--no-install-recommends",
            "-oDpkg::Options::=--force-unsafe-io",
            *PACKAGES,
            timeout=1200,
        )
    for rest in ("var/lib/apt/lists", "var/cache/apt", "var/log", "tmp", "etc/apt", "etc/resolv.conf", "etc/hosts"):
        path = inside.upper / rest
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    inside.upper.rename(work / "tree")
    shutil.rmtree(inside.directory)
    return {}
