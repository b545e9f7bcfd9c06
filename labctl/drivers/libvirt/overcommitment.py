"""Memory that virtual machines may still take."""

from __future__ import annotations

from typing import Any

from labctl.drivers.libvirt.connection import asked
from labctl.errors import LabError
from labctl.host.memory import available as available_memory
from labctl.records.lab import Lab
from labctl.topology.units import show_size

#: Bytes that QEMU itself needs besides its machine's memory: code buffers, queues.
OVERHEAD = 192 * 2**20


def refuse_overcommitment(lab: Lab, running: set[str], domains: list[Any]) -> None:
    """Refuse to start machines without enough memory, counting what running machines may still allocate.

    The kernel does not count memory that they have not touched yet.

    :param running: the lab's running nodes.
    :param domains: all running domains, of any owner.
    :raises LabError: together with the new machines it exceeds the available memory; shows the sum.
    """
    promised, new = 0, 0
    for domain in domains:
        if (stats := asked(domain.memoryStats)) and (info := asked(domain.info)):
            promised += max(0, (info[1] - stats.get("rss", 0)) * 1024)
    for name, node in lab.spec.nodes.items():
        new += node.memory + OVERHEAD if name not in running else 0
    free = available_memory()
    if new and promised + new > free:
        raise LabError(
            f"the lab's machines need {show_size(new)} of memory and running machines may still take "
            f"{show_size(promised)}: {show_size(promised + new)} together, but only {show_size(free)} is free",
            "labctl list shows the labs; labctl down NAME frees the memory of one",
        )
