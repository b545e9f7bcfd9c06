"""Overlay mounts: read-only layers and one that is written, seen as a machine's root.

The kernel takes all options of a mount in one page, so layers are named relative to a directory and not
by their long absolute paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from labctl.errors import LabError
from labctl.host import process

#: A directory of a lower layer can be renamed (nova renames an instance's on resize). A layer is whole
#: without indexes or references to the data of lower files, so it may be linked into another lab.
_OPTIONS = "redirect_dir=on,index=off,metacopy=off"
_MOUNTS = Path("/proc/self/mountinfo")


def _table() -> dict[str, dict[str, str]]:
    """Mount point to the options of the file system mounted there last."""
    found = {}
    for line in _MOUNTS.read_text().splitlines():
        fields = line.split(" ")
        options = dict(o.partition("=")[::2] for o in fields[-1].split(","))
        found[_plain(fields[4])] = {key: _plain(value) for key, value in options.items()}
    return found


def _plain(text: str) -> str:
    r"""Undo the kernel's writing of blanks and backslashes as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def mounted(path: Path) -> bool:
    """True when something is mounted on this very path."""
    return str(path) in _table()


def below(directory: Path) -> list[Path]:
    """Everything that is mounted below a directory, the innermost first."""
    return [Path(p) for p in sorted((p for p in _table() if p.startswith(f"{directory}/")), reverse=True)]


def upper(path: Path) -> str:
    """The layer that writes on a mount point go to, as it was named when mounted; empty when there is none."""
    return _table().get(str(path), {}).get("upperdir", "")


def lower() -> set[Path]:
    """Every read-only layer of every overlay on this machine that was named by its absolute path."""
    names = {name for options in _table().values() for name in options.get("lowerdir", "").split(":")}
    return {Path(name) for name in names if name.startswith("/")}


def mount(path: Path, source: str, lower: Sequence[Path], upper: Path, work: Path, directory: Path) -> None:
    """Mount layers on ``path``; what lies below ``directory`` is named relative to it.

    :param lower: read-only layers, the uppermost first; they must not change while they are mounted.
    :param upper: the layer that is written, on one file system with ``work``.
    :raises LabError: they are too many, or the kernel refuses.
    """
    names = [str(p.relative_to(directory)) if p.is_relative_to(directory) else str(p) for p in (*lower, upper, work)]
    options = f"lowerdir={':'.join(names[:-2])},upperdir={names[-2]},workdir={names[-1]},{_OPTIONS}"
    if len(options) >= os.sysconf("SC_PAGE_SIZE"):
        raise LabError(f"{path} would stand on {len(lower)} layers, more than the kernel can be told in one mount")
    # newer mount(8) would hand over each option by itself, and the kernel allows those 256 bytes
    env = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
    process.run(["mount", "-t", "overlay", source, "-o", options, path], env=env, cwd=directory)


def unmount(path: Path) -> str:
    """Unmount a path, whatever is on it; returns why it could not be done, or nothing."""
    while mounted(path):
        done = process.run(["umount", path], check=False)
        if done.returncode != 0:
            return done.stderr.strip() or f"umount {path} ended with {done.returncode}"
    return ""
