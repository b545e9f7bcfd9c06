"""Files of a node that belong to accounts whose numbers differ between two images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.host import files
from labctl.images import stack


@dataclass(frozen=True)
class Renumbered:
    """Numbers of users and groups in an image, where another image has the same names with others."""

    users: Mapping[int, int]
    groups: Mapping[int, int]

    def __bool__(self) -> bool:
        return bool(self.users or self.groups)

    def of(self, user: int, group: int) -> tuple[int, int]:
        """The new numbers of an owner and a group."""
        return self.users.get(user, user), self.groups.get(group, group)


#: Of files that come from the image that a node has.
SAME = Renumbered({}, {})


def renumbered(old: Sequence[Path], new: Sequence[Path]) -> Renumbered:
    """Compare the accounts of two images, each given by its layers."""
    return Renumbered(*(_changed(_numbers(old, name), _numbers(new, name)) for name in ("etc/passwd", "etc/group")))


def _numbers(layers: Sequence[Path], name: str) -> dict[str, int]:
    path = stack.find(layers, name)
    rows = [line.split(":") for line in path.read_text().splitlines()] if path else []
    return {row[0]: int(row[2]) for row in rows if len(row) > 2}


def _changed(old: Mapping[str, int], new: Mapping[str, int]) -> dict[int, int]:
    return {number: new[name] for name, number in old.items() if new.get(name, number) != number}


def give(root: Path, frozen: Iterable[Path], accounts: Renumbered) -> int:
    """Give a node's files to the same names' new numbers; returns how many.

    A new number may be another name's old one, so owners are read where nothing changes any more: repeating it does
    no harm.

    :param root: the node's tree.
    :param frozen: what the node itself has written, the newest first, laid out as the tree.
    """
    changed = 0
    for path, owner in _written(frozen).items():
        wanted = accounts.of(*owner)
        if wanted != owner:
            with suppress(FileNotFoundError, NotADirectoryError):  # removed on the node
                files.set_owner(root / path, *wanted, within=root)
                changed += 1
    return changed


def _written(frozen: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Path -> the numbers of its owner and group in the newest layer that has it."""
    found: dict[Path, tuple[int, int]] = {}
    for top in frozen:
        for place, directories, names, handle in os.fwalk(top):
            for name in (*directories, *names):
                has = os.stat(name, dir_fd=handle, follow_symlinks=False)
                found.setdefault(Path(place).relative_to(top) / name, (has.st_uid, has.st_gid))
    return found
