"""Whether labs fit into this machine's free memory and disk space."""

from __future__ import annotations

import shutil
from pathlib import Path

from labctl.errors import LabError, NoSpaceError
from labctl.host import memory
from labctl.topology.spec import LabSpec
from labctl.topology.units import show_size

#: Bytes of disk space for a node: overlays grow with what a lab writes, a small part of its disks' size.
GROWS = 2**30


def check_resources(spec: LabSpec, running: set[str], home: Path) -> None:
    """Refuse a lab that does not fit into the host's free memory and disk space.

    :raises LabError: names what is needed and what is free.
    """
    nodes = [n for n in spec.nodes.values() if n.name not in running]
    wanted = sum(n.memory for n in nodes)
    if wanted > (free := memory.available()):
        parts = ", ".join(f"{n.name} {show_size(n.memory)}" for n in nodes)
        raise LabError(
            f"the lab's nodes need {show_size(wanted)} of memory ({parts}); {show_size(free)} is free",
            "labctl list shows the labs; labctl down NAME frees a lab's memory",
        )
    room = shutil.disk_usage(home)
    disks = sum(d.size for n in nodes for d in n.disks)
    if disks > room.total:  # sparse, so they may exceed the free space, but not the size of the file system
        raise LabError(
            f"the nodes' additional disks need {show_size(disks)} in total; {home} is on a file system of "
            f"{show_size(room.total)}"
        )
    free_disk = room.free
    needed = len(nodes) * GROWS
    if needed > free_disk:
        said = f"{home} has {show_size(free_disk)} free; {len(nodes)} new nodes need about {show_size(needed)}"
        raise NoSpaceError(said)


def check_copies(spec: LabSpec, count: int, home: Path, *, declared: bool = True) -> None:
    """Refuse more labs of one kind than fit side by side and leave others what they need.

    :param declared: by the memory that their topology gives the nodes; else only by disk space.
    :raises LabError: names what they need, what is free, and for how many it is enough.
    """
    each = sum(n.memory for n in spec.nodes.values())
    disk = len(spec.nodes) * GROWS
    free, room = max(0, memory.available() - memory.RESERVE), shutil.disk_usage(home).free
    fit = min(free // each, room // disk) if declared else room // disk
    if count > fit:
        raise LabError(
            f"{count} more labs need {show_size(count * each)} of memory ({show_size(each)} each) and about "
            f"{show_size(count * disk)} of disk; {show_size(free)} and {show_size(room)} are free, enough for {fit}",
            "labctl list shows the labs; labctl down NAME frees a lab's memory",
        )
