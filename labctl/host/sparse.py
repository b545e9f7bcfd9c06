"""Files with holes: copied without filling them, counted by what they really use."""

from __future__ import annotations

from pathlib import Path

from labctl.host import process


def copy(source: Path, target: Path) -> None:
    """Copy a file or directory with everything that belongs to it; ``target`` must not exist.

    Holes stay holes, blocks of zeros become holes, and where the file system can share blocks nothing is
    copied at all.

    :raises LabError: it cannot be copied, as when the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    process.run(["cp", "-a", "--reflink=auto", "--sparse=always", "-T", source, target], timeout=1800)


def link(source: Path, target: Path) -> None:
    """Make a directory of its own with the same files by hard links; ``target`` must not exist.

    :raises LabError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    process.run(["cp", "-al", "-T", source, target], timeout=600)


def used(*paths: Path) -> int:
    """Bytes that files and directories take up on disk together, each hard-linked file once."""
    there = [path for path in paths if path.exists()]
    if not there:
        return 0
    # something may vanish while it is counted, which du reports and this does not
    done = process.run(["du", "-sc", "-x", "--block-size=1", *there], timeout=300, check=False)
    return int(done.stdout.splitlines()[-1].split()[0])
