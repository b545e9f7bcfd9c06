"""Overlay mounts: read-only layers and a writable one form a machine's root.

The kernel limits the options of a mount to one page, so layers are named relative to a directory instead of by
their long absolute paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from labctl.errors import LabError, NoSpaceError
from labctl.host import process

#: A directory of a lower layer can be renamed (nova renames an instance's on resize). Without indexes or references
#: to the data of lower files a layer is self-contained, so it may be linked into another lab.
_OPTIONS = "redirect_dir=on,index=off,metacopy=off"
#: Less than this is a full file system to the kernel, which needs some blocks for a directory (bytes).
_LEAST = 2**20
_MOUNTS = Path("/proc/self/mountinfo")


def _table() -> dict[str, dict[str, str]]:
    """Mount point -> options of the file system mounted there last."""
    found = {}
    for line in _MOUNTS.read_text().splitlines():
        fields = line.split(" ")
        options = dict(o.partition("=")[::2] for o in fields[-1].split(","))
        found[_plain(fields[4])] = {key: _plain(value) for key, value in options.items()}
    return found


def escaped(path: Path | str) -> str:
    r"""A layer's name in the options of a mount, where ``,`` ``:`` and a backslash have a meaning.

    :raises LabError: it contains a quote, at which mount(8) looks for a closing one.
    """
    if '"' in str(path):
        raise LabError(f"{path} cannot be a layer: mount(8) does not take a quote in it", "another LABCTL_HOME")
    return re.sub(r"([\\:,])", r"\\\1", str(path))


def _plain(text: str) -> str:
    r"""Undo the kernel's escapes of spaces and backslashes (``\040``)."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def mounted(path: Path) -> bool:
    """True when something is mounted on exactly this path."""
    return str(path) in _table()


def read_only(path: Path) -> bool:
    """True when the file system mounted on exactly this path is read-only itself.

    A read-only mount above the path hides it, and is not asked: what stands on the file system still writes.
    """
    return "ro" in _table().get(str(path), {})


def below(directory: Path) -> list[Path]:
    """All mounts below a directory, innermost first."""
    return [Path(p) for p in sorted((p for p in _table() if p.startswith(f"{directory}/")), reverse=True)]


def upper(path: Path) -> str:
    """The writable layer of a mount point, as it was named when mounted; empty when there is none."""
    return _table().get(str(path), {}).get("upperdir", "")


def lower() -> set[Path]:
    """All read-only layers of all overlays on this machine that were mounted by absolute path."""
    texts = {options.get("lowerdir", "") for options in _table().values()}
    names = {
        re.sub(r"\\(.)", r"\1", name) for text in texts for name in re.findall(r"(?:\\.|[^\\:])+", text, re.DOTALL)
    }
    return {Path(name) for name in names if name.startswith("/")}


def mount(path: Path, source: str, lower: Sequence[Path], upper: Path, work: Path, directory: Path) -> None:
    """Mount layers on ``path``; paths below ``directory`` are given relative to it.

    :param lower: read-only layers, uppermost first; they must not change while mounted.
    :param upper: the writable layer, on the same file system as ``work``.
    The kernel mounts read-only, without an error, when it cannot make its directory in ``work``: such a mount is
    undone (fs/overlayfs/super.c, ovl_get_workdir).

    :raises NoSpaceError: the file system of ``work`` is full.
    :raises LabError: too many layers, or the kernel refuses.
    """
    layers = (*lower, upper, work)
    names = [escaped(p.relative_to(directory) if p.is_relative_to(directory) else p) for p in layers]
    options = f"lowerdir={':'.join(names[:-2])},upperdir={names[-2]},workdir={names[-1]},{_OPTIONS}"
    if len(options) >= os.sysconf("SC_PAGE_SIZE"):
        raise LabError(f"{path} cannot be mounted: {len(lower)} layers exceed the kernel's limit for mount options")
    # newer mount(8) would pass each option separately, and the kernel limits those to 256 bytes
    env = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
    process.run(["mount", "-t", "overlay", source, "-o", options, path], env=env, cwd=directory)
    if read_only(path):
        unmount(path)
        room = os.statvfs(work)
        if room.f_bavail * room.f_frsize < _LEAST or not room.f_favail:
            raise NoSpaceError(f"{path} cannot be mounted: the file system of {work} is full")
        raise LabError(f"{path} can only be mounted read-only; the kernel's log says why", "dmesg | grep overlayfs")


def unmount(path: Path) -> str:
    """Unmount everything on a path; returns why that failed, empty on success."""
    while mounted(path):
        done = process.run(["umount", path], check=False)
        if done.returncode != 0:
            return done.stderr.strip() or f"umount {path} exited with status {done.returncode}"
    return ""
