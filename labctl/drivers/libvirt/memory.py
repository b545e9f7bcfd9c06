"""Checkpoints with memory: a lab's machines are paused together, saved beside their disks, and resumed together.

A layer holds ``NODE/memory`` for a machine that was saved in it. It matches the disks as they were then: either
nothing was written since (the machine resumes in the same layer, once), or a new layer was added on top, whose
``NODE/goes-on`` names the layer that holds the memory until the machine has resumed from it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labctl.drivers.libvirt import disks, seed
from labctl.drivers.libvirt.connection import Connection, asked, library, translated
from labctl.drivers.libvirt.domain import Accelerator, Domain, read_mark
from labctl.drivers.libvirt.saved import foreign, moved
from labctl.errors import BrokenLabError, LabError
from labctl.host import files
from labctl.host.ssh import Session
from labctl.host.threads import on_each, side_by_side
from labctl.images import kvm
from labctl.progress import note, warn
from labctl.records.lab import GOES_ON, MEMORY, Lab
from labctl.topology.units import show_size

Connect = Callable[[str], Session]


def pending(lab: Lab, node: str) -> Path | None:
    """The memory that a machine resumes from at its next start, None if it boots."""
    own = lab.top / node
    if (own / MEMORY).exists():
        return own / MEMORY
    try:
        number = (own / GOES_ON).read_text()
    except FileNotFoundError:
        return None
    path = lab.layer(number) / node / MEMORY
    if number not in lab.stack or not path.exists():
        raise BrokenLabError(f"the saved memory of {node}, {path}, is gone", f"labctl down {lab.name}")
    return path


def spend(lab: Lab, node: str) -> None:
    """Discard the memory that a machine resumes from: from now on its disks are newer."""
    files.erase(lab.top / node / MEMORY)
    files.erase(lab.top / node / GOES_ON)


def branch(lab: Lab, stack: tuple[str, ...], layer: str) -> None:
    """Let machines on a new layer resume from the memory in the layer below, if it is theirs."""
    for saved in sorted(lab.layer(stack[0]).glob(f"*/{MEMORY}")):
        node = saved.parent.name
        if facts(saved)["of"] == seed.mark(lab, node):  # a clone is another lab, and boots from its disks
            place = lab.layer(layer) / node
            files.make_directories(place)
            files.write_atomic(place / GOES_ON, stack[0])


def save(lab: Lab, domains: Mapping[str, Any], accelerator: Accelerator, connect: Connect) -> None:
    """Pause all machines, then save the memory of each into the lab's top layer; afterwards they are off.

    :raises LabError: it failed; paused machines are resumed.
    """
    if not domains:
        return
    _refuse_guests_on_amd(list(domains), accelerator, connect)
    on_each(lambda node: _flush(node, connect), domains)
    began = time.monotonic()
    try:
        for node, domain in domains.items():
            with translated(f"{node} cannot be paused"):
                domain.suspend()
        on_each(lambda node: _save(lab, node, domains[node]), domains)
    except LabError:
        for node, domain in domains.items():
            if asked(domain.isActive) and asked(domain.resume) is not None:
                note(node, "resumed")
        raise
    size = sum((lab.top / node / MEMORY).stat().st_size for node in domains)
    note("lab", f"memory saved, {show_size(size)} in {time.monotonic() - began:.1f} s")


def _flush(node: str, connect: Connect) -> None:
    """Flush a machine's writes to its disks, for labs that start from the disks alone."""
    with connect(node) as session:
        session.run("sync", timeout=120)


def _save(lab: Lab, node: str, domain: Any) -> None:
    path = lab.top / node / MEMORY
    new = path.with_name(f".{path.name}.new")
    with translated(f"the memory of {node} cannot be saved"):
        domain.saveFlags(str(new), None, library().VIR_DOMAIN_SAVE_PAUSED)
    files.write_atomic(path.with_name(disks.FACTS), json.dumps({"of": seed.mark(lab, node), **here(domain.connect())}))
    files.move(new, path)


def here(handle: Any) -> dict[str, str]:
    """The parts of this host that saved memory depends on."""
    with translated("libvirt"):
        versions = {"qemu": handle.getVersion(), "libvirt": handle.getLibVersion()}
    shown = {name: f"{n // 10**6}.{n // 1000 % 1000}.{n % 1000}" for name, n in versions.items()}
    return {**shown, "processor": kvm.processor()}


def facts(saved: Path) -> dict[str, str]:
    """The machine a saved memory belongs to, and what it was saved with, as in :func:`here`."""
    path = saved.with_name(disks.FACTS)
    try:
        found: dict[str, str] = json.loads(path.read_text())
        if not isinstance(found, dict) or "of" not in found:
            raise ValueError("other content")
    except (OSError, ValueError) as error:
        raise BrokenLabError(
            f"{path} does not say whose memory {saved} is", "labctl snapshot import FILE --boot"
        ) from error
    return found


def _refuse_guests_on_amd(nodes: list[str], accelerator: Accelerator, connect: Connect) -> None:
    """Under AMD's KVM the state of a machine with running guests cannot be saved: it is lost in the processor.

    https://docs.kernel.org/virt/kvm/x86/running-nested-guests.html, live migration of nested guests
    """
    if accelerator.type != "kvm" or "svm" not in kvm.cpu_flags():
        return
    for node in nodes:
        with connect(node) as session:
            users = session.run("cat /sys/module/kvm_amd/refcnt 2>/dev/null || echo 0", timeout=30).stdout.strip()
        if users not in ("", "0"):
            raise LabError(
                f"{node} runs guests under KVM on an AMD processor: the memory of such a machine cannot be saved",
                "shut its guests down first: openstack server stop",
            )


def load(connection: Connection, saved: Path, machine: Domain) -> None:
    """Restore a machine from its saved memory, paused.

    :param machine: as it would be booted, with the current file paths.
    :raises LabError: libvirt cannot: different QEMU or processor, or a damaged file.
    """
    flags, node, began = library().VIR_DOMAIN_SAVE_PAUSED, machine.mark.node, time.monotonic()
    with translated(f"{node} cannot be resumed from its saved memory"):
        description = connection.get().saveImageGetXMLDesc(str(saved), 0)
        mark = read_mark(description)
        if mark is None or mark.uuid != machine.mark.uuid:
            raise LabError(f"{saved} is not the memory of {node} of this lab", f"labctl down {machine.mark.lab}")
        description = moved(description, machine)
        if found := foreign(description, machine):
            raise LabError(
                f"{saved} has a description of {node} that labctl did not write: {found}",
                f"labctl down {machine.mark.lab}; labctl snapshot import FILE --boot",
            )
        connection.get().restoreFlags(str(saved), description, flags)
    note(node, f"memory loaded, {show_size(saved.stat().st_size)} in {time.monotonic() - began:.1f} s")


def set_clocks(connect: Connect, nodes: list[str]) -> None:
    """Set the clocks of machines, which stood still while they were saved.

    Whole seconds are set, since not every date(1) accepts fractions, and the command is sent half a round trip
    before the second begins: just after a restore, reaching an emulated machine took a second.
    """

    def work(node: str) -> None:
        with connect(node) as session:
            for _ in range(2):  # the first command of a session takes longer
                sent = time.time()
                session.run("date -u >/dev/null", timeout=60)
            on_the_way = (time.time() - sent) / 2
            second = math.ceil(time.time() + on_the_way)
            time.sleep(max(0, second - on_the_way - time.time()))
            done = session.run(f"date -u -s @{second} >/dev/null", timeout=60)
            if done.status != 0:
                raise LabError(done.stderr.strip())

    for node, future in zip(nodes, side_by_side(work, nodes), strict=True):
        if error := future.exception():
            warn(node, f"its clock could not be set: {error}")
