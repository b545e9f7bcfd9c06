"""The disks of virtual machines: qcow2 files in a lab's layers, each over the one in the layer below.

A layer holds ``NODE/root.qcow2`` and ``NODE/disks/NAME.qcow2``. Files name what they stand on relative to
themselves, so that a layer may be linked into another lab; only the golden image is named absolutely.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from labctl.errors import BrokenLabError, LabError
from labctl.host import process
from labctl.images import vm
from labctl.records.lab import Lab
from labctl.topology.units import show_size

#: In a layer, beside a node's files: the node was made anew here, and has nothing of the layers below.
ANEW = "anew"
#: Whose memory it is, and what it was saved with (JSON).
FACTS = "memory.json"
#: virtio's limit for a disk's serial number, in bytes.
MAX_SERIAL = 20


def _below(lab: Lab, node: str) -> list[Path]:
    """What a node has in the layers below the one it writes into, uppermost first."""
    found = []
    for number in lab.stack:
        place = lab.layer(number) / node
        if not lab.layer(number).is_dir():
            raise BrokenLabError(f"{lab.layer(number)}, on which {lab.name} stands, is gone", f"labctl down {lab.name}")
        if place != lab.top / node and place.is_dir():
            found.append(place)
        if (place / ANEW).exists():
            break
    return found


def root(lab: Lab, node: str) -> Path:
    """The file of a machine's root disk."""
    return lab.top / node / "root.qcow2"


def additional(lab: Lab, node: str, name: str) -> Path:
    """The file of one of a machine's additional disks."""
    return lab.top / node / "disks" / f"{name}.qcow2"


def seed(lab: Lab, node: str) -> Path:
    """The file that makes the disk this machine."""
    return lab.node_directory(node) / "seed.iso"


def create(lab: Lab, node: str, image: Path) -> None:
    """Make the disks that a machine does not have yet.

    :raises LabError: a disk is smaller than the image, or has a name that does not fit.
    """
    spec = lab.spec.nodes[node]
    smallest = vm.disk_size(image)
    if spec.disk < smallest:
        raise LabError(
            f"{node} has a disk of {show_size(spec.disk)}, the image needs {show_size(smallest)}",
            f"nodes.{node}.disk in the topology",
        )
    for disk in spec.disks:
        if len(disk.name) > MAX_SERIAL:
            raise LabError(f"{node}: a virtio disk's name has up to {MAX_SERIAL} letters, not as '{disk.name}'")
    below = _below(lab, node)
    _make(root(lab, node), spec.disk, _first(below, "root.qcow2") or _golden(image))
    for disk in spec.disks:
        _make(additional(lab, node, disk.name), disk.size, _first(below, f"disks/{disk.name}.qcow2"))


def _golden(image: Path) -> Path:
    return image / "tree" / "disk.qcow2"


def rebase(disk: Path, image: Path) -> None:
    """Let a disk that stands on a golden one, wherever it was, stand on it where it is now."""
    shown = json.loads(process.output(["qemu-img", "info", "--output=json", "-U", disk]))
    if (shown.get("backing-filename") or "").startswith("/"):
        process.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", _golden(image), disk])


def _first(below: list[Path], name: str) -> Path | None:
    return next((place / name for place in below if (place / name).exists()), None)


def _make(path: Path, size: int, backing: Path | None) -> None:
    """Make a disk in one step, so that one that is there is whole."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    command: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing is not None:
        in_lab = backing.is_relative_to(path.parents[2] if path.parent.name != "disks" else path.parents[3])
        command += ["-b", os.path.relpath(backing, path.parent) if in_lab else backing, "-F", "qcow2"]
    process.run([*command, new, str(size)])
    new.rename(path)


def discard(lab: Lab, node: str) -> None:
    """Remove what a machine has written; of the layers below it has nothing any more."""
    own = lab.top / node
    shutil.rmtree(own, ignore_errors=True)
    if any((lab.layer(number) / node).is_dir() for number in lab.stack[1:]):
        own.mkdir(parents=True)
        (own / ANEW).touch()
