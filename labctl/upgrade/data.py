"""Data that a daemon began with in its image, and has changed only in part on a node: all of it is of one version."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labctl.host import files
from labctl.upgrade.accounts import SAME, Renumbered


def keep(root: Path, place: str, old: Sequence[Path], frozen: Iterable[Path], accounts: Renumbered) -> None:
    """Make a directory of a node hold what it held on its old image, and nothing that only the new one has.

    What the node itself has written is there; the rest comes from the old image. Repeating it does no harm.

    :param root: the node's tree, on the new image.
    :param place: the directory, relative to a tree's root.
    :param old: the layers of the old image, uppermost first.
    :param frozen: what the node itself has written, laid out as the tree.
    """
    own = {path for top in frozen for path in _below(top, place)}
    had: dict[Path, Path] = {}
    for layer in old:
        for path in _below(layer / "tree", place):
            had.setdefault(path, layer / "tree" / path)
    for path in sorted(set(_below(root, place)) - own - set(had), reverse=True):
        files.remove(root / path, within=root)
    if had:
        files.make_directories(root / place, within=root)
    for path in sorted(set(had) - own):
        bring(had[path], root / path, root, accounts)


def _below(top: Path, place: str) -> Iterator[Path]:
    for directory, directories, names in os.walk(top / place):
        for name in (*directories, *names):
            yield (Path(directory) / name).relative_to(top)


def bring(source: Path, target: Path, root: Path, accounts: Renumbered = SAME) -> None:
    """Make a file, link or directory of a node as an image has it."""
    status = source.lstat()
    if source.is_symlink():
        files.link(target, str(source.readlink()), within=root)
    elif source.is_dir():
        files.make_directories(target, status.st_mode & 0o7777, within=root)
    elif source.is_file():
        files.copy(source, target, status.st_mode & 0o7777, within=root)
    else:  # a device that hides a file of a lower layer, or a socket
        return
    files.set_owner(target, *accounts.of(status.st_uid, status.st_gid), within=root)
