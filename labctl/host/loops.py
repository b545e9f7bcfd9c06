"""Loop devices: the additional disks of containers, each identified by its backing file."""

from __future__ import annotations

from pathlib import Path

from labctl.host import files, process

BLOCK = Path("/sys/block")
_DELETED = " (deleted)"  # the kernel's suffix for a deleted file


def attached(directory: Path) -> dict[str, Path]:
    """Loop device -> backing file, for every backing file below a directory (including deleted ones)."""
    prefix = f"{directory}/"
    files = _backing()
    return {name: Path(file.removesuffix(_DELETED)) for name, file in files.items() if file.startswith(prefix)}


def _backing() -> dict[str, str]:
    """Loop device -> name of its backing file, as the kernel shows it."""
    found: dict[str, str] = {}
    for path in BLOCK.glob("loop*/loop/backing_file"):
        try:
            found[f"/dev/{path.parts[-3]}"] = path.read_text().rstrip("\n")
        except OSError:  # detached meanwhile
            continue
    return found


def attach(file: Path, size: int) -> str:
    """Return the loop device of a file, attaching it if needed; a missing file is created sparse, ``size`` bytes."""
    for device, backing in _backing().items():
        if backing == str(file):  # never one with a deleted backing file: that is an earlier lab's disk
            return device
    files.make_directories(file.parent)
    with files.appended(file, 0o644) as sink:
        if sink.tell() < size:  # new, or left by a process that was killed before it set the size
            sink.truncate(size)
    return process.output(["losetup", "--find", "--show", file])


def detach_all(directory: Path) -> list[str]:
    """Detach every loop device with a backing file below a directory; returns those that could not be detached."""
    return [
        f"loop device {device}"
        for device in attached(directory)
        if process.run(["losetup", "--detach", device], check=False).returncode != 0
    ]
