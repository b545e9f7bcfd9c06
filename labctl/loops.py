"""Loop devices: the additional disks of containers, each known by the file behind it."""

from __future__ import annotations

import json
from pathlib import Path

from labctl import process


def attached(directory: Path) -> dict[str, Path]:
    """Loop device to backing file, for every backing file below a directory (also one already deleted)."""
    if process.missing("losetup"):
        return {}
    said = process.output(["losetup", "--list", "--json", "--output", "NAME,BACK-FILE"])
    rows = json.loads(said)["loopdevices"] if said else []
    prefix = f"{directory}/"
    files = {row["name"]: str(row["back-file"]).removesuffix(" (deleted)") for row in rows}
    return {name: Path(file) for name, file in files.items() if file.startswith(prefix)}


def attach(file: Path, size: int) -> str:
    """Return the loop device of a file, making a sparse file of ``size`` bytes when there is none."""
    for device, backing in attached(file.parent).items():
        if backing == file:
            return device
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as sink:
            sink.truncate(size)
    return process.output(["losetup", "--find", "--show", file])


def detach_all(directory: Path) -> list[str]:
    """Detach every loop device whose file is below a directory; returns those that would not go."""
    return [
        f"loop device {device}"
        for device in attached(directory)
        if process.run(["losetup", "--detach", device], check=False).returncode != 0
    ]
