"""Debian packages used as a source of files: downloaded from the machine's own mirror, unpacked, never installed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from labctl.host import files, paths, process
from labctl.images import apt

#: Directories of / that Debian's merged /usr replaces by links.
MERGED = ("bin", "sbin", "lib", "lib64")


T = TypeVar("T")


def _asked(ask: Callable[[apt.Archive, Path], T]) -> T:
    """Ask the machine's archive something; what apt said is kept when it fails."""
    log = paths.logs() / f"packages-{os.getpid()}.log"
    files.make_directories(log.parent)
    answer = ask(apt.Archive.here(), log)
    files.erase(log)
    return answer


def depends(packages: Iterable[str]) -> set[str]:
    """Return the direct dependencies of packages, virtual ones left out.

    :raises LabError: the mirror does not know one of them, or its index cannot be had.
    """
    return _asked(lambda archive, log: archive.depends(list(packages), log))


def with_libraries(names: Iterable[str]) -> list[str]:
    """The packages with all the shared libraries they need, and nothing else: no debconf, no perl.

    :raises LabError: the mirror does not know one of them, or its index cannot be had.
    """
    wanted = new = set(names)
    while new:
        libraries = {name for name in depends(sorted(new)) if re.match(r"lib(?!.*perl)|zlib", name)}
        new = libraries - wanted
        wanted = wanted | new
    return sorted(wanted)


def download(names: Iterable[str], directory: Path) -> list[Path]:
    """Bring packages, and only those, into a new directory; what was downloaded before comes from the cache.

    :raises LabError: the mirror does not know the packages, or they cannot be had.
    """
    return _asked(lambda archive, log: archive.download(sorted(names), directory, log))


def unpack(packages: list[Path], tree: Path) -> None:
    """Extract the packages side by side into one merged-usr tree, and drop them."""
    for package in packages:
        process.run(["dpkg-deb", "-x", package, tree], timeout=120)
        files.erase(package)
    # One usr: Debian 12's packages still spread over / and /usr, Debian 13's do not.
    for name in MERGED:
        apart, merged = tree / name, tree / "usr" / name
        files.make_directories(merged)
        if apart.is_dir():
            process.run(["cp", "-al", f"{apart}/.", merged])
            files.erase(apart)
        files.link(apart, f"usr/{name}")
