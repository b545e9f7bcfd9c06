"""Sparse files: copied without filling the holes, measured by allocated size."""

from __future__ import annotations

from pathlib import Path

from labctl.host import files, process


def copy(source: Path, target: Path) -> None:
    """Copy a file or directory with all attributes; ``target`` must not exist.

    Holes stay holes, blocks of zeros become holes, and file systems that can share blocks copy nothing.

    :raises LabError: the copy failed, for example because the disk is full.
    """
    files.make_directories(target.parent)
    process.run(["cp", "-a", "--reflink=auto", "--sparse=always", "-T", source, target], timeout=1800)


def link(source: Path, target: Path) -> None:
    """Copy a directory as hard links; ``target`` must not exist.

    :raises LabError: it cannot be created.
    """
    files.make_directories(target.parent)
    process.run(["cp", "-al", "-T", source, target], timeout=600)


def used(*paths: Path) -> int:
    """Total bytes that files and directories take on disk, counting each hard-linked file once."""
    there = [path for path in paths if path.exists()]
    if not there:
        return 0
    # du reports files that vanish meanwhile; they are ignored here
    done = process.run(["du", "-sc", "-x", "--block-size=1", *there], timeout=300, check=False)
    return int(done.stdout.splitlines()[-1].split()[0])
