"""Machines created by Vagrant, with its provider libvirt, in the lab's namespace.

The lab's directory ``vagrant`` is an ordinary Vagrant directory: Vagrantfile, lab.json, ``.vagrant``; `vagrant
status` there agrees with labctl. Vagrant creates, starts, halts, snapshots and removes machines; what its command
cannot do (pause, unplug a cable, count CPU seconds) is done through the lab's libvirt.

A lab's layer has no disk of such a machine: the state at the time the layer was frozen is a snapshot inside the
machine's disk, named after the layer and recorded as ``NODE/snapshot`` in the layer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from labctl.drivers import halt, reach
from labctl.drivers.base import Capabilities, Machine, shutdown_order
from labctl.drivers.libvirt import daemon, seed, wiring
from labctl.drivers.libvirt.connection import asked, translated
from labctl.drivers.libvirt.machine import Libvirt
from labctl.drivers.libvirt.overcommitment import refuse_overcommitment
from labctl.drivers.vagrant import command, document
from labctl.drivers.vagrant.command import Vagrant
from labctl.drivers.vagrant.hypervisor import GROUP, Hypervisor, run_directory
from labctl.errors import BrokenLabError, LabError
from labctl.host import cgroup, files, links, network, process
from labctl.host.ssh import Session
from labctl.host.threads import on_each
from labctl.images import box as boxes
from labctl.images import golden, store
from labctl.images.box import Box
from labctl.progress import note, warn
from labctl.records.lab import Lab

PROVIDER = "libvirt"
#: The control group of Vagrant's own processes.
COMMANDS = "_vagrant"
#: Files of a machine: it was created; a start is in progress; a start has finished.
MADE, STARTING, STARTED = "made", "starting", "started"
#: In a layer: the lab whose machine has a snapshot of it; the layer whose snapshot the machine resumes from, once.
SNAPSHOT, RESTORE = "snapshot", "restore"
#: Seconds for Vagrant's commands on a machine as fast as the host, in addition to what they wait for.
UP, COMMAND = 420, 180
#: Any Linux: the guest is only ever asked to shut down.
GUEST = "linux"
#: Node files that a box creates itself at a machine's first start.
_ITS_OWN = ("etc/machine-id",)


class VagrantMachines:
    """The driver ``vagrant``."""

    name = "vagrant"

    def __init__(self) -> None:
        self._libvirt = Libvirt()
        self._lock = threading.Lock()

    # --- capabilities ----------------------------------------------------------------------------

    def mtu(self, lab: str) -> int:
        return 0

    @property
    def patience(self) -> float:
        """1 under KVM."""
        return self._libvirt.patience

    def capabilities(self) -> Capabilities:
        return self._libvirt.capabilities()

    def probe(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the driver vagrant needs root to create namespaces", "the same command with sudo")
        command.library()
        if absent := process.missing(command.PROGRAM, "ip", "nsenter", "timeout", "dnsmasq", "qemu-img"):
            raise LabError(
                f"the driver vagrant needs {', '.join(absent)}",
                "apt-get install --no-install-recommends vagrant vagrant-libvirt dnsmasq-base; labctl doctor",
            )
        wanted = command.environment()["VAGRANT_DEFAULT_PROVIDER"]
        if wanted != PROVIDER:
            raise LabError(
                f"labctl supports only Vagrant's provider {PROVIDER}, not {wanted} (VAGRANT_DEFAULT_PROVIDER)",
                "labctl vagrant render zed-2node creates a directory where `vagrant up --provider virtualbox` works",
            )

    @store.keeping()
    def image(self, lab: Lab) -> tuple[Path, ...]:
        if not lab.layers:
            layers = golden.ensure(lab.spec.base, lab.spec.package_source, lab.spec.release)
            return (boxes.ensure(layers, PROVIDER),)
        (image,) = lab.layers
        if not (image / "tree").is_dir():
            raise BrokenLabError(f"the box {image}, used by {lab.name}, is gone", f"labctl down {lab.name}; {lab.up()}")
        store.verify(image)
        return lab.layers

    def _hypervisor(self, lab: Lab) -> Hypervisor:
        return Hypervisor(lab)

    def _directory(self, lab: Lab) -> Path:
        return lab.directory / "vagrant"

    def _vagrant(self, lab: Lab) -> Vagrant:
        """Vagrant in the lab's directory, namespace and control group."""
        inside = f"--net={network.NETNS / network.lab_namespace(lab.name)}"
        words = (*cgroup.joining(lab.name, COMMANDS), "nsenter", inside)
        return Vagrant(self._directory(lab), self._directory(lab) / "log", words)

    # --- life ------------------------------------------------------------------------------------

    def create(self, lab: Lab, node: str) -> None:
        with self._lock:
            self._prepare(lab)
        own = lab.node_directory(node)
        files.make_directories(own)
        files.write_atomic(own / MADE, "")
        mark = lab.top / node / RESTORE
        if mark.exists():
            self._off(lab, node)
            self._vagrant(lab).snapshot("restore", node, mark.read_text(), self._seconds(COMMAND), "--no-start")
            files.erase(mark)

    def _prepare(self, lab: Lab) -> None:
        """Make the lab's libvirt and lab.json match the spec."""
        hypervisor = self._hypervisor(lab)
        hypervisor.start()
        hypervisor.furnish()
        box = self._box(lab)
        hypervisor.stock(*_volume(box))
        directory = self._directory(lab)
        files.make_directories(directory, 0o700)
        text = document.render(lab.spec, self._settings(lab, box))
        for name, content in ((document.FILE, text), ("Vagrantfile", document.VAGRANTFILE.read_text())):
            path = directory / name
            if not path.exists() or path.read_text() != content:
                files.write_atomic(path, content, 0o600)

    def _box(self, lab: Lab) -> Box:
        """The lab's box, registered with Vagrant."""
        (image,) = lab.layers
        found = boxes.publish(boxes.box_name(lab.spec.base, lab.spec.release), PROVIDER, image)
        if not _volume(found)[0].exists():
            command.register(found, PROVIDER)
        return found

    def _settings(self, lab: Lab, box: Box) -> document.Settings:
        files = {
            node: {path: file for path, file in seed.files(lab, node).items() if path not in _ITS_OWN}
            for node in lab.spec.nodes
        }
        return document.Settings(
            box,
            libvirt=document.Libvirt(self._hypervisor(lab).uri, self._libvirt.accelerator.type),
            guest=GUEST,
            boot_timeout=self._seconds(document.BOOT),
            halt_timeout=document.HALT,
            connect_timeout=self._seconds(document.CONNECT),
            files=files,
            consoles={node: self.console(lab, node) for node in lab.spec.nodes},
        )

    def _seconds(self, seconds: float) -> int:
        """A deadline for machines this slow; part of it is Vagrant's own work, which runs at the host's speed."""
        return round(seconds * max(1.0, self.patience / 2))

    def start(self, lab: Lab, node: str) -> None:
        if self.machine(lab, node).running:
            return
        own = lab.node_directory(node)
        vagrant, again = self._vagrant(lab), (own / STARTING).exists()
        if again and not (own / STARTED).exists():  # Vagrant's key may not have reached its disk
            vagrant.destroy(node, self._seconds(COMMAND))
        halt.forget(lab, node)
        files.write_atomic(own / STARTING, "")
        vagrant.up(node, PROVIDER, self._seconds(UP), provision=True if again else None)
        files.write_atomic(own / STARTED, "")
        files.erase(own / STARTING)

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        running, _ = self._hypervisor(lab).state_of(node)
        if not running:
            return True
        if not seconds or (lab.node_directory(node) / STARTING).exists():
            self._off(lab, node)
            return False
        self.resume(lab, node)
        with halt.told(lab, node):
            try:
                self._vagrant(lab).halt(node, seconds + COMMAND)
            except LabError as error:
                warn(node, f"pressing its power button instead: {error.message}")
                self._press(lab, node, seconds)
            in_time = not self._hypervisor(lab).state_of(node)[0]
            self._off(lab, node)
        return in_time

    def _press(self, lab: Lab, node: str, seconds: float) -> None:
        """Press a machine's power button, repeatedly, since one that is still booting ignores it; wait ``seconds``."""
        hypervisor, deadline, pressed = self._hypervisor(lab), time.monotonic() + seconds, 0.0
        while hypervisor.state_of(node)[0] and time.monotonic() < deadline:
            if time.monotonic() > pressed + 5 and (domain := hypervisor.domain(node)) is not None:
                asked(domain.shutdown)
                pressed = time.monotonic()
            time.sleep(0.2)

    def _off(self, lab: Lab, node: str) -> None:
        """Cut a machine's power."""
        hypervisor = self._hypervisor(lab)
        if hypervisor.state_of(node)[0] and (domain := hypervisor.domain(node)) is not None:
            asked(domain.destroy)

    def destroy(self, lab: Lab, node: str) -> list[str]:
        left = [f"process {pid} of Vagrant" for pid in cgroup.kill(lab.name, COMMANDS)]
        machines = self._directory(lab) / ".vagrant/machines" / node
        hypervisor = self._hypervisor(lab)
        if hypervisor.state.exists() and (network.NETNS / network.lab_namespace(lab.name)).exists():
            try:
                hypervisor.start()
                if (machines / PROVIDER / "id").exists():
                    self._vagrant(lab).destroy(node, self._seconds(COMMAND))
            except LabError as error:
                note(node, f"removing it without Vagrant: {error.message}")
            left += hypervisor.discard(node)
        if not left:
            files.remove(machines)
            files.remove(lab.top / node)
            files.remove(lab.node_directory(node))
        return left

    def machine(self, lab: Lab, node: str) -> Machine:
        own = lab.node_directory(node)
        exists = (own / MADE).exists()
        running, paused = self._hypervisor(lab).state_of(node) if exists else (False, False)
        if not running or (own / STARTING).exists():
            return Machine(node, exists, False)
        return Machine(node, exists, True, f"domain {document.prefix(lab.name)}{node}", paused)

    def remains(self, name: str) -> list[str]:
        path = run_directory(name)
        return [f"directory {path}"] if path.exists() else []

    def sweep(self, name: str) -> list[str]:
        left = [f"process {pid} of {group}" for group in (COMMANDS, GROUP) for pid in cgroup.kill(name, group)]
        files.remove(run_directory(name), within=daemon.RUN)
        return left + self.remains(name)

    def litter(self, recorded: set[str]) -> list[Path]:
        return []

    def lost(self, lab: Lab, node: str) -> str:
        if not self.machine(lab, node).running:
            return ""
        return halt.cut_short(lab, node) or wiring.severed(lab.spec, lab.spec.nodes[node])

    # --- snapshots ---------------------------------------------------------------------------------

    def rest(self, lab: Lab, seconds: float) -> None:
        def stop(node: str) -> None:
            if not self.stop(lab, node, seconds) and seconds:
                warn(node, f"did not shut down within {seconds:g} s and was powered off")

        for group in shutdown_order(lab.spec):
            on_each(stop, group)

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        below = lab.layer(stack[0])
        self._refuse_to_clone(lab, below)
        if stack == lab.stack:
            on_each(lambda node: self._freeze(lab, node, stack[0]), self._existing(lab))
            return
        frozen = [path.parent.name for path in below.glob(f"*/{SNAPSHOT}")]
        for node in frozen:
            domain = self._hypervisor(lab).domain(node)
            if domain is None or _snapshot(stack[0]) not in (asked(domain.snapshotListNames) or []):
                raise BrokenLabError(
                    f"{node} of {lab.name} has no snapshot of that moment: its machine was re-created since",
                    f"labctl snapshot list {lab.name}",
                )
        for node in frozen:
            place = lab.layer(layer) / node
            files.make_directories(place)
            files.write_atomic(place / RESTORE, _snapshot(stack[0]))

    def tidy(self, lab: Lab) -> list[str]:
        return []

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        raise LabError(
            "a Vagrant lab cannot be exported: its snapshots are kept by the hypervisor, not in files",
            "the same topology with --driver libvirt",
        )

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        raise LabError("snapshots of Vagrant labs cannot be imported: they cannot be exported")

    def _refuse_to_clone(self, lab: Lab, below: Path) -> None:
        """Refuse layers whose machines belong to another lab.

        :raises LabError: they do.
        """
        if any(path.read_text() != lab.id for path in below.glob(f"*/{SNAPSHOT}")):
            raise LabError(
                "Vagrant machines cannot be cloned: their snapshots are inside their disks",
                lab.up("NAME"),
            )

    def _existing(self, lab: Lab) -> list[str]:
        return [node for node in lab.spec.nodes if self._hypervisor(lab).domain(node) is not None]

    def _freeze(self, lab: Lab, node: str, number: str) -> None:
        """Save a machine's state as a snapshot, and delete snapshots of layers that are gone."""
        vagrant, domain = self._vagrant(lab), self._hypervisor(lab).domain(node)
        for name in asked(domain.snapshotListNames) or [] if domain is not None else []:
            if name.startswith("layer-") and not lab.layer(name.removeprefix("layer-")).exists():
                vagrant.snapshot("delete", node, name, self._seconds(COMMAND))
        vagrant.snapshot("save", node, _snapshot(number), self._seconds(COMMAND))
        place = lab.layer(number) / node
        files.make_directories(place)
        files.write_atomic(place / SNAPSHOT, lab.id)

    # --- faults ------------------------------------------------------------------------------------

    def pause(self, lab: Lab, node: str) -> None:
        domain = self._hypervisor(lab).domain(node) if self.machine(lab, node).running else None
        if domain is None:
            raise LabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
        if not self.machine(lab, node).paused:
            with translated(f"{node} cannot be paused"):
                domain.suspend()

    def resume(self, lab: Lab, node: str) -> None:
        domain = self._hypervisor(lab).domain(node) if self.machine(lab, node).paused else None
        if domain is not None:
            with translated(f"{node} cannot be resumed"):
                domain.resume()

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        links.plug(lab.spec, node, network, up)
        if self.machine(lab, node).running:
            wiring.carrier(self._hypervisor(lab).domain(node), links.card(lab.spec, node, network), up)

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
            hint=f"labctl logs {lab.name}; cd {self._directory(lab)}; vagrant status",
        )

    def console(self, lab: Lab, node: str) -> Path:
        return lab.node_directory(node) / "console.log"

    def create_network(self, lab: Lab) -> None:
        running = {node for node in lab.spec.nodes if self.machine(lab, node).running}
        refuse_overcommitment(lab, running, self._hypervisor(lab).memory())
        network.create(lab.spec)

    def destroy_network(self, lab: Lab) -> list[str]:
        left = [f"process {pid} of Vagrant" for pid in cgroup.kill(lab.name, COMMANDS)]
        left += self._hypervisor(lab).stop()
        if not left:
            files.remove(self._directory(lab))
        return left + network.delete(lab.name)

    def cpu_seconds(self, lab: Lab) -> float:
        return cgroup.cpu_seconds(lab.name)


def _snapshot(number: str) -> str:
    return f"layer-{number}"


def _volume(box: Box) -> tuple[Path, str]:
    """The disk to which Vagrant unpacked a box, and vagrant-libvirt's name for it in a pool."""
    folder = box.name.replace("/", "-VAGRANTSLASH-")
    return (
        command.home() / "boxes" / folder / box.version / PROVIDER / "box.img",
        f"{folder}_vagrant_box_image_{box.version}_box.img",
    )
