"""System containers: systemd-nspawn over an overlay of a golden image.

docs/platform.md says how a container must be started, and why: the namespace and cards are created first and
nspawn starts inside it, so that /sys shows the node's own cards; /sys and /proc/sys are writable, because nova and
neutron write there; udev and sysctl units are masked, because they would act on the host.

Listings ask for the state of machines and for no more, so what builds images and what speaks SSH is imported by the
methods that do.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.drivers import container, halt
from labctl.drivers.base import Capabilities, Machine, shutdown_order
from labctl.errors import BrokenLabError, LabError
from labctl.host import (
    cgroup,
    files,
    identity,
    limits,
    links,
    loops,
    network,
    overlay,
    paths,
    process,
    sparse,
    state,
    tagging,
)
from labctl.host.threads import on_each
from labctl.images import store
from labctl.progress import warn
from labctl.records.lab import Lab

if TYPE_CHECKING:
    from labctl.host.ssh import Session

#: Where a node sees the directory shared by all nodes of the lab.
SHARED = "/var/lib/labctl/shared"
#: nspawn's directory for each container, through which mounts propagate into it.
PROPAGATE = Path("/run/systemd/nspawn/propagate")
_HALT = signal.SIGRTMIN + 4  # systemd's "power off" signal, systemd(1)
#: Seconds for a machine's first process to enter its network namespace; a few milliseconds are usual.
_ENTER = 30
#: In a layer, beside a node's files: the node was re-created here and uses nothing from the layers below.
_ANEW = "anew"
#: Beside a machine's root: its process, since it was started with the cards that it has.
_STARTED = "machine.json"
_PROGRAMS = ("systemd-nspawn", "ip", "nsenter", "mount", "losetup", "mmdebstrap")


class Nspawn:
    """The driver ``nspawn``."""

    name = "nspawn"
    patience = 1.0

    def mtu(self, lab: str) -> int:
        return 0

    def capabilities(self) -> Capabilities:
        return Capabilities(
            own_kernel=False,
            block_devices=True,
            device_mapper=False,
            openvswitch=False,
            vlan=tagging.kernel_has_devices(),
            nested_kvm=False,
        )

    def probe(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the driver nspawn needs root to create namespaces and mounts", "the same command with sudo")
        if absent := process.missing(*_PROGRAMS):
            raise LabError(
                f"the driver nspawn needs {', '.join(absent)}",
                "apt-get install systemd-container iproute2 util-linux mmdebstrap",
            )
        if "overlay" not in Path("/proc/filesystems").read_text():
            raise LabError("the driver nspawn needs the overlay file system, which this kernel does not have")

    def image(self, lab: Lab) -> tuple[Path, ...]:
        if not lab.layers:
            from labctl.images import golden

            return golden.ensure(lab.spec.base, lab.spec.package_source, lab.spec.release)
        # never replaced: a machine's writes fit only the exact files they were written over
        for layer in lab.layers:
            if not (layer / "tree").is_dir():
                raise BrokenLabError(
                    f"the golden image layer {layer}, used by {lab.name}, is gone",
                    f"labctl down {lab.name}; {lab.up()}",
                )
            store.verify(layer)
        return lab.layers

    # --- disks ---------------------------------------------------------------------------------

    def create(self, lab: Lab, node: str) -> None:
        root, own = lab.node_directory(node) / "root", lab.top / node
        upper, work = own / "upper", own / "work"
        for path in (root, upper, work):
            files.make_directories(path)
        stale = overlay.mounted(root) and overlay.upper(root) != str(upper.relative_to(lab.directory))
        if stale or overlay.read_only(root):  # left by a killed restore, or by a labctl that met a full disk
            self._detach(lab, node)
        if not overlay.mounted(root):
            lower = [*self._below(lab, node), *(layer / "tree" for layer in lab.layers)]
            overlay.mount(root, f"labctl-{lab.id}", lower, upper, work, lab.directory)
        mark = root / "etc" / "labctl-node"
        if files.content(mark, within=root) != container.mark(lab, node):
            container.seed(lab, node, root)
        if not self.machine(lab, node).running:
            # bridges, tunnels and rules in its namespace must not survive a restart, as with a real machine
            network.detach_container(lab.spec, node)
            network.attach_container(lab.spec, lab.spec.nodes[node])
            files.discard(lab.node_directory(node) / _STARTED)  # these cards are new

    def _below(self, lab: Lab, node: str) -> list[Path]:
        """A node's directories in the layers below the one it writes to, uppermost first."""
        found: list[Path] = []
        for number in lab.stack:
            if not lab.layer(number).is_dir():
                raise BrokenLabError(
                    f"the layer {lab.layer(number)}, used by {lab.name}, is gone", f"labctl down {lab.name}"
                )
            if (lab.layer(number) / node / "upper").is_dir():
                found.append(lab.layer(number) / node / "upper")
            if (lab.layer(number) / node / _ANEW).exists():
                break
        return [path for path in found if path != lab.top / node / "upper"]

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        below, new = lab.layer(stack[0]), lab.layer(layer)
        for disks in sorted(below.glob("*/disks")):
            sparse.copy(disks, new / disks.relative_to(below))
        if (below / "shared").is_dir():
            sparse.copy(below / "shared", new / "shared")

    # --- processes -----------------------------------------------------------------------------

    def start(self, lab: Lab, node: str) -> None:
        if self.machine(lab, node).running:
            return
        # if labctl was killed before it wrote the record below, an unrecorded machine is left
        if left := cgroup.kill(lab.name, node):
            raise BrokenLabError(f"{node}: processes {left} of an earlier start did not end", f"labctl down {lab.name}")
        halt.forget(lab, node)
        directory = lab.node_directory(node)
        if (directory / _STARTED).exists():
            # restarted: what the machine configured on its cards before (bridges, rules) must be gone
            network.detach_container(lab.spec, node)
            network.attach_container(lab.spec, lab.spec.nodes[node])
        command: list[str | Path] = [
            *cgroup.joining(lab.name, node),
            "nsenter",
            f"--net={network.NETNS / network.node_namespace(lab.name, node)}",
            "systemd-nspawn",
            "--quiet",
            "--keep-unit",
            "--register=no",
            f"--directory={directory / 'root'}",
            f"--machine={self._machine_name(lab, node)}",
            f"--hostname={node}",
            "--capability=all",
            "--private-users=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--bind=/dev/net/tun",
            f"--bind={overlay.escaped(self._shared(lab))}:{SHARED}",
            *self._disks(lab, node),
            "--boot",
        ]
        env = {
            **os.environ,
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",
            "SYSTEMD_SECCOMP": "0",
            # nova takes a cpu hierarchy of cgroup v1, which is read-only here, as permission to assign CPU shares
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        }
        with files.appended(self.console(lab, node), 0o644) as log:
            started = process.start(command, log=log, env=env, outlives=True)
        record = {"pid": started.pid, "started": identity.start_time(started.pid)}
        files.write_atomic(directory / _STARTED, json.dumps(record))
        deadline = time.monotonic() + _ENTER
        with suppress(OSError):  # it has ended
            # until then it looks like a machine whose network was replaced
            while not network.entered(lab.spec, node, started.pid) and time.monotonic() < deadline:
                time.sleep(0.01)

    def _machine_name(self, lab: Lab, node: str) -> str:
        """nspawn's name of the container: at most 64 characters, with the marks of home and lab."""
        return f"labctl-{paths.mark()}-{lab.id}-{hashlib.sha256(node.encode()).hexdigest()[:8]}"

    def _shared(self, lab: Lab) -> Path:
        """The directory that all nodes of the lab see at SHARED."""
        path = lab.top / "shared"
        files.make_directories(path)
        return path

    def _disks(self, lab: Lab, node: str) -> list[str]:
        """A loop device over a sparse file for each additional disk, under the name of a VM's disk."""
        disks = lab.top / node / "disks"
        return [
            f"--bind={loops.attach(disks / f'{disk.name}.img', disk.size)}:{disk.device}"
            for disk in lab.spec.nodes[node].disks
        ]

    def _nspawn_pid(self, lab: Lab, node: str) -> int:
        """The pid of the machine's nspawn process, 0 when it is not running."""
        path = lab.node_directory(node) / _STARTED
        try:
            record: dict[str, int | str] = state.read(path, dict[str, int | str], "")
            pid, since = int(record["pid"]), record["started"]
        except (LabError, LookupError, ValueError):  # none, or damaged: what its control group has is still ended
            return 0
        started = identity.start_time(pid)
        return pid if started and started == since else 0

    def _init_pid(self, nspawn: int) -> int:
        """The pid of the container's init."""
        try:
            children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        self.resume(lab, node)
        with halt.told(lab, node):
            pid = self._nspawn_pid(lab, node)
            if pid and seconds and (init := self._init_pid(pid)):
                os.kill(init, _HALT)
                deadline = time.monotonic() + seconds
                while self._nspawn_pid(lab, node) and time.monotonic() < deadline:
                    time.sleep(0.1)
            if not (in_time := not (pid := self._nspawn_pid(lab, node))):
                with suppress(ProcessLookupError):  # just started, it may not have joined its control group
                    os.kill(pid, signal.SIGKILL)
            if left := cgroup.kill(lab.name, node):
                raise BrokenLabError(f"{node}: processes {left} did not end", "ps -fp PID")
        self._forget(lab, node)
        return in_time

    def _forget(self, lab: Lab, node: str) -> None:
        """Remove nspawn's directory for the container, which it may leave behind."""
        with suppress(OSError):  # missing, or in use
            files.remove_empty(PROPAGATE / self._machine_name(lab, node))

    def rest(self, lab: Lab, seconds: float) -> None:
        def stop(node: str) -> None:
            if not self.stop(lab, node, seconds) and seconds:
                warn(node, f"did not shut down within {seconds:g} s and was killed")
            if left := self._detach(lab, node):
                raise BrokenLabError(f"{node}: {', '.join(left)}", "fuser -vm PATH shows which processes use it")

        for group in shutdown_order(lab.spec):
            on_each(stop, group)

    def _detach(self, lab: Lab, node: str) -> list[str]:
        """Unmount a machine's root and detach its disks; returns what could not be released."""
        root = lab.node_directory(node) / "root"
        left = [f"mount {root}: {why}"] if (why := overlay.unmount(root)) else []
        for layer in (lab.directory / "layers").glob("*"):
            left += loops.detach_all(layer / node)
        return left

    def destroy(self, lab: Lab, node: str) -> list[str]:
        left = [f"process {pid} of {node}" for pid in cgroup.kill(lab.name, node)]
        left += self._detach(lab, node)
        network.detach_container(lab.spec, node)
        self._forget(lab, node)
        root, own = lab.node_directory(node) / "root", lab.top / node
        if overlay.mounted(root):
            process.run(["umount", "--lazy", root], check=False)
        if not left:
            files.remove(own)
            files.remove(lab.node_directory(node))
            if any((lab.layer(number) / node).is_dir() for number in lab.stack[1:]):
                files.make_directories(own)
                files.write_atomic(own / _ANEW, "")
        return left

    def remains(self, name: str) -> list[str]:
        return []

    def sweep(self, name: str) -> list[str]:
        return []

    def litter(self, recorded: set[str]) -> list[Path]:
        mark = f"labctl-{paths.mark()}-"
        found = sorted(PROPAGATE.glob(f"{mark}*"))
        return [p for p in found if p.name.removeprefix(mark).partition("-")[0] not in recorded]

    def lost(self, lab: Lab, node: str) -> str:
        pid = self._nspawn_pid(lab, node)
        if not pid:
            return ""
        if not overlay.mounted(lab.node_directory(node) / "root"):
            return "its disk is not mounted"
        if overlay.read_only(lab.node_directory(node) / "root"):
            return "its disk is read-only"
        return halt.cut_short(lab, node) or network.severed(lab.spec, lab.spec.nodes[node], pid)

    def machine(self, lab: Lab, node: str) -> Machine:
        exists = overlay.mounted(lab.node_directory(node) / "root")
        pid = self._nspawn_pid(lab, node)
        paused = bool(pid) and cgroup.frozen(lab.name, node)
        return Machine(node, exists, bool(pid), f"pid {pid}" if pid else "", paused)

    def tidy(self, lab: Lab) -> list[str]:
        return []

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        return {}

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        """Layers contain no host-specific paths."""

    # --- faults --------------------------------------------------------------------------------

    def pause(self, lab: Lab, node: str) -> None:
        if not self.machine(lab, node).running:
            raise LabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
        cgroup.freeze(lab.name, node)

    def resume(self, lab: Lab, node: str) -> None:
        cgroup.thaw(lab.name, node)

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        links.plug(lab.spec, node, network, up)

    def shape(self, lab: Lab, node: str, network: str, shape: links.Shape) -> None:
        links.shape(lab.spec, node, network, shape)

    def files(self, lab: Lab, node: str) -> Path | None:
        root = lab.node_directory(node) / "root"
        return root if overlay.mounted(root) else None

    def written(self, lab: Lab, node: str, stack: tuple[str, ...]) -> tuple[Path, ...]:
        return tuple(path for number in stack if (path := lab.layer(number) / node / "upper").is_dir())

    # --- access --------------------------------------------------------------------------------

    def connect(self, lab: Lab, node: str, seconds: float) -> Session:
        from labctl.drivers import reach

        return reach.session(
            lab,
            node,
            seconds,
            running=lambda: bool(self._nspawn_pid(lab, node)),
            console=lambda: self.console(lab, node),
            hint=f"labctl status {lab.name}; labctl logs {lab.name}",
        )

    def console(self, lab: Lab, node: str) -> Path:
        return lab.node_directory(node) / "console.log"

    def create_network(self, lab: Lab) -> None:
        network.create(lab.spec)
        mine = {network.node_namespace(lab.name, node) for node in lab.spec.nodes}
        limits.admit(len({*network.machines(), *mine}))

    def destroy_network(self, lab: Lab) -> list[str]:
        left = network.delete(lab.name)
        return left + [f"process {pid}" for pid in cgroup.kill(lab.name)]

    def cpu_seconds(self, lab: Lab) -> float:
        return cgroup.cpu_seconds(lab.name)
