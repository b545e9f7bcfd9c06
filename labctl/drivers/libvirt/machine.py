"""Virtual machines under libvirt: domains on golden disks, in the lab's namespace, with their own kernels."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from labctl.drivers import halt, reach
from labctl.drivers.base import Capabilities, Machine
from labctl.drivers.libvirt import disks, leftovers, memory, portable, seed, wiring
from labctl.drivers.libvirt.connection import Connection, asked, library, meant, release, translated
from labctl.drivers.libvirt.domain import (
    Accelerator,
    Card,
    DirectBoot,
    Disk,
    Domain,
    Firmware,
    Mark,
    domain_name,
    read_mark,
)
from labctl.drivers.libvirt.overcommitment import refuse_overcommitment
from labctl.errors import BrokenLabError, LabError
from labctl.host import files, links, network, paths, process
from labctl.host.ssh import Session
from labctl.host.threads import on_each
from labctl.images import golden, kvm, store, vm
from labctl.progress import note
from labctl.records.lab import Lab

_PROGRAMS = ("ip", "qemu-img", "mke2fs", "unshare")
#: The fastest CPU model under emulation, measured by bench/vm_boot.py. With AMD's virtualisation, which QEMU emulates,
#: a compute node runs its guests under KVM, so they are translated once instead of twice. Without nested pages (npt):
#: with them a node's kernel panicked and a guest ended unexpectedly (docs/libvirt.md).
EMULATED_CPU = "qemu64"
EMULATED_FEATURES: tuple[str, ...] = ("svm",)
MACHINE = "pc"
#: A private machine needs no CPU mitigations, which cost most under emulation. An emulated timer may tick too late for
#: the kernel's test of it, which then panics: "IO-APIC + timer doesn't work!" (Launchpad bugs 1312199, 1939108).
ARGUMENTS = "console=ttyS0 net.ifnames=0 mitigations=off tsc=reliable no_timer_check"
#: How many times slower a machine computes under emulation (docs/platform.md).
EMULATED = 10.0
#: A machine's file while it is starting and still paused, and its content: it boots, its memory is being loaded, or
#: its memory is loaded.
STARTING = "starting"
BOOTS, LOADING, LOADED = "boots", "loading", "loaded"


class Libvirt:
    """The driver ``libvirt``.

    :param autodestroy: machines end with this process, however it ends; for tests and CI.
    """

    name = "libvirt"

    def __init__(self, *, autodestroy: bool | None = None) -> None:
        wanted = os.environ.get("LABCTL_AUTODESTROY", "") not in ("", "0")
        self.autodestroy = wanted if autodestroy is None else autodestroy
        self._lock = threading.Lock()

    # --- capabilities ----------------------------------------------------------------------------

    def connection(self) -> Connection:
        """The connection to the configured libvirt."""
        return meant()

    @cached_property
    def accelerator(self) -> Accelerator:
        """KVM if a kernel ran under it, else emulation."""
        seen = kvm.examine()
        if seen.boot is not None and seen.boot.works:
            return Accelerator("kvm", "host-passthrough" if seen.boot.model == "host" else seen.boot.model)
        note("host", f"{seen.sentence}: machines run under emulation, about ten times slower")
        return Accelerator("qemu", EMULATED_CPU, EMULATED_FEATURES)

    @property
    def patience(self) -> float:
        """1 under KVM."""
        return EMULATED if self.accelerator.type == "qemu" else 1.0

    def mtu(self, lab: str) -> int:
        return 0

    def capabilities(self) -> Capabilities:
        # the machines' kernel is labctl's own choice, see labctl.images.kernel
        return Capabilities(
            own_kernel=True,
            block_devices=True,
            device_mapper=True,
            openvswitch=True,
            vlan=True,
            nested_kvm=kvm.nested(),
        )

    def probe(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the driver libvirt needs root to create namespaces", "the same command with sudo")
        if absent := process.missing(*_PROGRAMS, kvm.QEMU):
            raise LabError(f"the driver libvirt needs {', '.join(absent)}", "labctl doctor")
        connection = self.connection()
        if not connection.is_here:
            raise LabError(
                f"{connection.uri} is a libvirt on another machine, which cannot use this machine's disks and networks",
                "the same command there, or here without LIBVIRT_DEFAULT_URI",
            )
        connection.get()

    def image(self, lab: Lab) -> tuple[Path, ...]:
        if not lab.layers:
            return (golden.disk(lab.spec),)
        (image,) = lab.layers  # never replaced: a machine's writes fit only the image they were written over
        if not (image / "tree").is_dir():
            raise BrokenLabError(
                f"the image {image}, used by {lab.name}, is gone", f"labctl down {lab.name}; {lab.up()}"
            )
        store.verify(image)
        return lab.layers

    def _domain(self, lab: Lab, node: str) -> Any | None:
        """The node's domain, None when it is not running.

        :raises LabError: a domain with that name belongs to something else.
        """
        name = domain_name(lab.name, node)
        found = self.connection().find(name)
        if found is None:
            return None
        description = asked(found.XMLDesc)
        if description is None:
            return None
        mark = read_mark(description)
        if mark is None or mark.id != lab.id:
            whose = f"belongs to a lab of {mark.home}" if mark else "was not created by labctl"
            raise LabError(
                f"domain {name} already exists in libvirt and {whose}; not touching it", f"virsh dominfo {name}"
            )
        return found

    # --- life ------------------------------------------------------------------------------------

    def create(self, lab: Lab, node: str) -> None:
        (image,) = lab.layers
        files.make_directories(lab.node_directory(node))
        disks.create(lab, node, image)
        path = disks.seed(lab, node)
        if not path.exists():
            files.write_atomic(path, seed.iso(lab, node), 0o600)

    def _description(self, lab: Lab, node: str) -> Domain:
        (image,) = lab.layers
        spec = lab.spec.nodes[node]
        return Domain(
            mark=Mark(lab.name, lab.id, node, str(paths.home())),
            accelerator=self.accelerator,
            machine=MACHINE,
            cpus=spec.cpus,
            memory=spec.memory,
            boot=_boot_of(image),
            disks=[
                Disk(disks.root(lab, node), vm.ROOT_SERIAL),
                Disk(disks.seed(lab, node), vm.SEED_SERIAL, readonly=True),
                *(Disk(disks.additional(lab, node, disk.name), disk.name) for disk in spec.disks),
            ],
            cards=[
                Card(each.mac, network.port(each), lab.spec.networks[card.network].mtu)
                for card in spec.interfaces
                for each in card.cards
            ],
            console=self.console(lab, node),
        )

    def start(self, lab: Lab, node: str) -> None:
        marker = lab.node_directory(node) / STARTING
        saved = memory.pending(lab, node)
        if _began(lab, node) == LOADING:  # labctl was killed meanwhile
            self._end(lab, node)
        if self._domain(lab, node) is None:
            halt.forget(lab, node)
            files.write_atomic(marker, LOADING if saved else BOOTS)
            if saved is None:
                self._boot(lab, node)
            else:
                memory.load(self.connection(), saved, self._description(lab, node))
                files.write_atomic(marker, LOADED)
        if _began(lab, node):
            self._finish(lab, node)

    def _boot(self, lab: Lab, node: str) -> None:
        libvirt = library()
        flags = libvirt.VIR_DOMAIN_START_PAUSED
        if self.autodestroy:
            flags |= libvirt.VIR_DOMAIN_START_AUTODESTROY
        with translated(f"{node} cannot be started"):
            self.connection().get().createXML(self._description(lab, node).xml(), flags)

    def _finish(self, lab: Lab, node: str) -> None:
        """Plug a paused machine in and resume it; machines restored from memory resume together, with the last."""
        with self._lock:
            waiting = {n: d for n in lab.spec.nodes if (d := self._waiting(lab, n)) is not None}
            if node not in waiting or any(memory.pending(lab, n) for n in lab.spec.nodes if n not in waiting):
                return  # the last one has resumed it already, or will
            group = {n: d for n, d in waiting.items() if memory.pending(lab, n)} or {node: waiting[node]}
            from_memory = _began(lab, node) == LOADED
            for name in group:
                wiring.plug_in(lab.spec, lab.spec.nodes[name])
            for name in group:
                memory.spend(lab, name)  # before it runs: from then on its disks are newer
            for domain in group.values():
                with translated(f"{node} cannot be resumed"):
                    domain.resume()
            for name in group:
                files.erase(lab.node_directory(name) / STARTING)
        if from_memory:
            memory.set_clocks(lambda name: self.connect(lab, name, 60), list(group))

    def _waiting(self, lab: Lab, node: str) -> Any | None:
        """The domain of a machine that is ready to resume."""
        return self._domain(lab, node) if _began(lab, node) in (BOOTS, LOADED) else None

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        domain = self._domain(lab, node)
        if domain is None:
            return True
        deadline, asked_at = time.monotonic() + seconds, 0.0
        with halt.told(lab, node):
            if seconds and not _began(lab, node):
                self.resume(lab, node)
                while time.monotonic() < deadline and self._domain(lab, node) is not None:
                    if time.monotonic() > asked_at + 5:  # a machine that is still booting ignores the power button
                        asked(domain.shutdown)
                        asked_at = time.monotonic()
                    time.sleep(0.2)
            in_time = self._domain(lab, node) is None
            self._end(lab, node)
        return in_time

    def _end(self, lab: Lab, node: str) -> None:
        """Destroy a machine's domain, and wait until libvirt has released it."""
        deadline = time.monotonic() + 30
        while (domain := self._domain(lab, node)) is not None:
            with suppress(BrokenLabError):  # it may be ending right now; the deadline catches other errors
                asked(domain.destroy)
            if time.monotonic() > deadline:
                raise BrokenLabError(f"{node}: its domain did not end", f"virsh destroy {domain.name()}")
            time.sleep(0.05)
        files.erase(lab.node_directory(node) / STARTING)

    def destroy(self, lab: Lab, node: str) -> list[str]:
        try:
            self._end(lab, node)
        except LabError as error:
            return [f"domain {domain_name(lab.name, node)}: {error.message}"]
        disks.discard(lab, node)
        process.run(["rm", "-rf", lab.node_directory(node)], check=False)
        return []

    def machine(self, lab: Lab, node: str) -> Machine:
        exists = disks.root(lab, node).exists() or bool(memory.pending(lab, node))
        domain = self._domain(lab, node)
        if domain is None:
            return Machine(node, exists, False, reach.panic(self.console(lab, node)))
        if _began(lab, node):  # its console is from an earlier boot
            return Machine(node, exists, False)
        state = asked(domain.state)
        paused = state is not None and state[0] == library().VIR_DOMAIN_PAUSED
        return Machine(node, exists, state is not None, f"domain {domain.name()}", paused)

    remains = staticmethod(leftovers.remains)
    sweep = staticmethod(leftovers.sweep)

    def litter(self, recorded: set[str]) -> list[Path]:
        return []

    def lost(self, lab: Lab, node: str) -> str:
        if self._domain(lab, node) is None:
            return ""
        return halt.cut_short(lab, node) or wiring.severed(lab.spec, lab.spec.nodes[node])

    # --- snapshots ---------------------------------------------------------------------------------

    def rest(self, lab: Lab, seconds: float) -> None:
        if not seconds:
            on_each(lambda node: self._end(lab, node), lab.spec.nodes)
            return
        found = {node: domain for node in lab.spec.nodes if (domain := self._domain(lab, node)) is not None}
        for node in found:
            if _began(lab, node):
                raise BrokenLabError(f"{node} of {lab.name} has not finished starting", f"labctl repair {lab.name}")
        memory.save(lab, found, self.accelerator, lambda name: self.connect(lab, name, 60))

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        memory.branch(lab, stack, layer)

    def tidy(self, lab: Lab) -> list[str]:
        return []

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        return portable.needs(self.connection(), lab, layer)

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        portable.adopt(self.connection(), self.accelerator, lab, needs)

    # --- faults ------------------------------------------------------------------------------------

    def pause(self, lab: Lab, node: str) -> None:
        domain = self._domain(lab, node)
        if domain is None:
            raise LabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
        with translated(f"{node} cannot be paused"):
            domain.suspend()

    def resume(self, lab: Lab, node: str) -> None:
        domain = self._domain(lab, node)
        if domain is not None and self.machine(lab, node).paused:
            with translated(f"{node} cannot be resumed"):
                domain.resume()

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        links.plug(lab.spec, node, network, up)
        wiring.carrier(self._domain(lab, node), links.card(lab.spec, node, network), up)

    def shape(self, lab: Lab, node: str, network: str, shape: links.Shape) -> None:
        links.shape(lab.spec, node, network, shape)

    def files(self, lab: Lab, node: str) -> Path | None:
        return None

    def written(self, lab: Lab, node: str, stack: tuple[str, ...]) -> tuple[Path, ...]:
        return ()

    # --- access ------------------------------------------------------------------------------------

    def connect(self, lab: Lab, node: str, seconds: float) -> Session:
        return reach.session(
            lab,
            node,
            seconds,
            patience=self.patience,
            running=lambda: self.machine(lab, node).running,
            console=lambda: self.console(lab, node),
            hint=f"virsh console {domain_name(lab.name, node)}; labctl logs {lab.name}",
        )

    def console(self, lab: Lab, node: str) -> Path:
        return lab.node_directory(node) / "console.log"

    def create_network(self, lab: Lab) -> None:
        running = {name for name in lab.spec.nodes if self._domain(lab, name) is not None}
        refuse_overcommitment(lab, running, self.connection().domains())
        network.create(lab.spec)

    def destroy_network(self, lab: Lab) -> list[str]:
        left = network.delete(lab.name)
        return left + release()

    def cpu_seconds(self, lab: Lab) -> float:
        used = 0.0
        for node in lab.spec.nodes:
            domain = self._domain(lab, node)
            info = asked(domain.info) if domain is not None else None
            used += info[4] / 1e9 if info else 0.0
        return used


def _began(lab: Lab, node: str) -> str:
    """How an unfinished start of a machine began; empty if there is none."""
    try:
        return (lab.node_directory(node) / STARTING).read_text()
    except FileNotFoundError:
        return ""


def _boot_of(image: Path) -> DirectBoot | Firmware:
    """How to boot a golden disk: with the kernel beside it, or with its own boot loader."""
    kernel, initrd = image / "tree/vmlinuz", image / "tree/initrd"
    return DirectBoot(kernel, initrd, ARGUMENTS) if kernel.exists() else Firmware()
