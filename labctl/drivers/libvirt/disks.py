"""The disks of virtual machines: qcow2 files in a lab's layers, each backed by the one in the layer below.

A layer holds ``NODE/root.qcow2`` and ``NODE/disks/NAME.qcow2``. Backing files are given by relative path, so that a
layer may be linked into another lab; only the golden image is given by absolute path.
"""

from __future__ import annotations

import os
from pathlib import Path

from labctl.errors import BrokenLabError, LabError
from labctl.host import files, process, qcow2
from labctl.images import vm
from labctl.records.lab import Lab
from labctl.topology.units import show_size

#: In a layer, beside a node's files: the node was re-created here and uses nothing from the layers below.
ANEW = "anew"
#: The machine a saved memory belongs to, and what it was saved with (JSON).
FACTS = "memory.json"
#: virtio's limit for a disk's serial number, in bytes.
MAX_SERIAL = 20


def _below(lab: Lab, node: str) -> list[Path]:
    """A node's directories in the layers below the one it writes to, uppermost first."""
    found = []
    for number in lab.stack:
        place = lab.layer(number) / node
        if not lab.layer(number).is_dir():
            raise BrokenLabError(
                f"the layer {lab.layer(number)}, used by {lab.name}, is gone", f"labctl down {lab.name}"
            )
        if place != lab.top / node and place.is_dir():
            found.append(place)
        if (place / ANEW).exists():
            break
    return found


def root(lab: Lab, node: str) -> Path:
    """The file of a machine's root disk."""
    return lab.top / node / "root.qcow2"


def additional(lab: Lab, node: str, name: str) -> Path:
    """The file of an additional disk of a machine."""
    return lab.top / node / "disks" / f"{name}.qcow2"


def seed(lab: Lab, node: str) -> Path:
    """The machine's seed ISO."""
    return lab.node_directory(node) / "seed.iso"


def create(lab: Lab, node: str, image: Path) -> None:
    """Create a machine's missing disks.

    :raises LabError: a disk is smaller than the image, or its name is too long.
    """
    spec = lab.spec.nodes[node]
    smallest = vm.disk_size(image)
    if spec.disk < smallest:
        raise LabError(
            f"the disk of {node} has {show_size(spec.disk)}, the image needs {show_size(smallest)}",
            f"nodes.{node}.disk in the topology",
        )
    for disk in spec.disks:
        if len(disk.name) > MAX_SERIAL:
            raise LabError(f"{node}: disk name '{disk.name}' is longer than {MAX_SERIAL} characters (virtio's limit)")
    below = _below(lab, node)
    _make(root(lab, node), spec.disk, _first(below, "root.qcow2") or _golden(image))
    for disk in spec.disks:
        _make(additional(lab, node, disk.name), disk.size, _first(below, f"disks/{disk.name}.qcow2"))


def _golden(image: Path) -> Path:
    return image / "tree" / "disk.qcow2"


def adopt(lab: Lab, image: Path) -> None:
    """Take over the disks of layers from another host: those on its golden image are put on this one's.

    :raises LabError: a disk would let a machine read another file than one of its own in the layers below.
    """
    for place, number in enumerate(lab.stack):
        for disk in sorted([*lab.layer(number).glob("*/root.qcow2"), *lab.layer(number).glob("*/disks/*")]):
            inner = disk.relative_to(lab.layer(number))
            up = "../" * len(inner.parts)
            found = qcow2.read(disk)
            if inner.name == "root.qcow2" and found.backing.startswith("/"):
                process.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", _golden(image), disk])
            else:
                qcow2.check(disk, tuple(f"{up}{below}/{inner}" for below in lab.stack[place + 1 :]))


def _first(below: list[Path], name: str) -> Path | None:
    return next((place / name for place in below if (place / name).exists()), None)


def _make(path: Path, size: int, backing: Path | None) -> None:
    """Create a disk atomically, so that an existing disk is always complete."""
    if path.exists():
        return
    files.make_directories(path.parent)
    new = path.with_name(f".{path.name}.new")
    files.erase(new)
    command: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing is not None:
        in_lab = backing.is_relative_to(path.parents[2] if path.parent.name != "disks" else path.parents[3])
        command += ["-b", os.path.relpath(backing, path.parent) if in_lab else backing, "-F", "qcow2"]
    process.run([*command, new, str(size)])
    files.move(new, path)


def discard(lab: Lab, node: str) -> None:
    """Remove a machine's writes; it no longer uses the layers below."""
    own = lab.top / node
    files.remove(own)
    if any((lab.layer(number) / node).is_dir() for number in lab.stack[1:]):
        files.make_directories(own)
        files.write_atomic(own / ANEW, "")
