"""Debian packages used as a source of files: downloaded from the machine's own mirror, unpacked, never installed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from labctl import process
from labctl.errors import LabError

#: Directories of / that Debian's merged /usr replaces by links.
MERGED = ("bin", "sbin", "lib", "lib64")


def _apt(command: list[str], *, cwd: Path | None = None, timeout: float = 60) -> str:
    try:
        return process.run(command, cwd=cwd, timeout=timeout).stdout
    except process.CommandError as error:
        raise LabError(error.message, "apt-get update, then try again") from error


def depends(packages: Iterable[str]) -> set[str]:
    """Return the direct dependencies of packages, virtual ones left out.

    :raises LabError: apt does not know one of them, or there is no apt.
    """
    return set(re.findall(r"Depends: ([a-z0-9][^\s<]*)", _apt(["apt-cache", "depends", *packages])))


def with_libraries(names: Iterable[str]) -> list[str]:
    """The packages with all the shared libraries they need, and nothing else: no debconf, no perl."""
    wanted = new = set(names)
    while new:
        libraries = {name for name in depends(sorted(new)) if re.match(r"lib(?!.*perl)|zlib", name)}
        new = libraries - wanted
        wanted = wanted | new
    return sorted(wanted)


def download(names: Iterable[str], directory: Path) -> list[Path]:
    """Download packages, and only those, into a new directory.

    :raises LabError: apt does not know the packages, or cannot reach its archive.
    """
    directory.mkdir()
    _apt(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names], cwd=directory, timeout=300)
    return sorted(directory.glob("*.deb"))


def unpack(packages: list[Path], tree: Path) -> None:
    """Extract the packages side by side into one merged-usr tree, and drop them."""
    for package in packages:
        process.run(["dpkg-deb", "-x", package, tree], timeout=120)
        package.unlink()
    # One usr: Debian 12's packages still spread over / and /usr, Debian 13's do not.
    for name in MERGED:
        apart, merged = tree / name, tree / "usr" / name
        merged.mkdir(parents=True, exist_ok=True)
        if apart.is_dir():
            process.run(["cp", "-al", f"{apart}/.", merged])
            shutil.rmtree(apart)
        apart.symlink_to(f"usr/{name}")
