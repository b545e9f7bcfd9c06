"""System containers: systemd-nspawn over an overlay of a golden image.

How a container must be started, and why, is in docs/platform.md: the namespace and cards are made first
and nspawn starts inside it, so that /sys shows the node's own cards; /sys and /proc/sys are writable,
because nova and neutron write there; udev and sysctl units are masked, because they would act on the host.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

from labctl import cgroup, loops, network, process, vantage
from labctl.drivers.base import Capabilities, Machine
from labctl.errors import BrokenLabError, LabError
from labctl.images import golden
from labctl.lab.state import LabState, write_atomic
from labctl.ssh import Session, save_private
from labctl.ssh import connect as ssh_connect

#: Units that would act on the host's devices, clock or kernel.
MASKED = (
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-udev-settle.service",
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-logind.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "dev-hugepages.mount",
)
#: Where a node finds the directory that it shares with the lab's other nodes.
SHARED = "/var/lib/labctl/shared"
_HALT = signal.SIGRTMIN + 4  # systemd's "power off" signal, systemd(1)
_PROGRAMS = ("systemd-nspawn", "ip", "nsenter", "mount", "losetup", "mmdebstrap")


def _mounted(path: Path) -> bool:
    wanted = str(path)
    return any(line.split()[1] == wanted for line in Path("/proc/mounts").read_text().splitlines())


def _start_time(pid: int) -> str:
    """The kernel's start time of a process: with the pid, an identity that is never used twice.

    Empty for one that has ended, also while it waits to be reaped by this very process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


class Nspawn:
    """The driver ``nspawn``."""

    name = "nspawn"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            own_kernel=False, block_devices=True, device_mapper=False, openvswitch=False, nested_kvm=False
        )

    def probe(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the driver nspawn makes namespaces and mounts, which needs root", "sudo labctl …")
        if absent := process.missing(*_PROGRAMS):
            raise LabError(
                f"the driver nspawn needs {', '.join(absent)}",
                "apt-get install systemd-container iproute2 util-linux mmdebstrap",
            )
        if "overlay" not in Path("/proc/filesystems").read_text():
            raise LabError("the kernel has no overlay file system, which the driver nspawn needs")

    def image(self, lab: LabState) -> tuple[Path, ...]:
        return golden.ensure(lab.spec.base, lab.spec.package_source, lab.spec.release)

    # --- disks ---------------------------------------------------------------------------------

    def create(self, lab: LabState, node: str) -> None:
        directory = lab.node_directory(node)
        root, upper, work = (directory / part for part in ("root", "upper", "work"))
        fresh = not upper.exists()
        for path in (root, upper, work):
            path.mkdir(parents=True, exist_ok=True)
        if not _mounted(root):
            lower = ":".join(f"{layer}/tree" for layer in lab.layers)
            options = f"lowerdir={lower},upperdir={upper},workdir={work}"
            process.run(["mount", "-t", "overlay", f"labctl-{lab.id}", "-o", options, root])
        if fresh or not (root / "etc" / "labctl-node").exists():
            self._seed(lab, node, root)
        if not self.machine(lab, node).running:
            network.attach_container(lab.spec, lab.spec.nodes[node])

    def _seed(self, lab: LabState, node: str, root: Path) -> None:
        """What makes this tree this machine: names, keys, and no unit that would act on the host."""
        (root / "etc" / "hostname").write_text(node + "\n")
        (root / "etc" / "machine-id").write_text(os.urandom(16).hex() + "\n")
        save_private(root / "etc/ssh/ssh_host_ed25519_key", lab.host_private_key(node))
        (root / "etc/ssh/ssh_host_ed25519_key.pub").write_text(lab.host_key(node))
        authorized = root / "root/.ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700, exist_ok=True)
        save_private(authorized, lab.public_key())
        for unit in MASKED:
            link = root / "etc/systemd/system" / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
        # all nodes and the host share one clock: chrony serves and compares it, but never sets it
        (root / "etc/default/chrony").write_text('DAEMON_OPTS="-F 1 -x"\n')
        (root / "etc" / "labctl-node").write_text(f"{lab.name} {lab.id} {node}\n")

    # --- processes -----------------------------------------------------------------------------

    def start(self, lab: LabState, node: str) -> None:
        if self.machine(lab, node).running:
            return
        # a labctl that was killed before it wrote the record below leaves a machine that nobody knows
        if left := cgroup.kill(lab.name, node):
            raise BrokenLabError(f"{node}: processes {left} of an earlier start do not end", f"labctl down {lab.name}")
        directory = lab.node_directory(node)
        command: list[str | Path] = [
            "sh",
            "-c",
            'echo $$ >"$0" && exec "$@"',
            cgroup.make(lab.name, node),
            "nsenter",
            f"--net={network.NETNS / network.node_namespace(lab.name, node)}",
            "systemd-nspawn",
            "--quiet",
            "--keep-unit",
            "--register=no",
            f"--directory={directory / 'root'}",
            f"--machine={lab.name}-{node}",
            f"--hostname={node}",
            "--capability=all",
            "--private-users=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--bind=/dev/net/tun",
            f"--bind={self._shared(lab)}:{SHARED}",
            *self._disks(lab, node),
            "--boot",
        ]
        env = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1", "SYSTEMD_SECCOMP": "0"}
        with self.console(lab, node).open("ab") as log:
            started = process.start(command, log=log, env=env)
        record = {"pid": started.pid, "started": _start_time(started.pid)}
        write_atomic(directory / "machine.json", json.dumps(record))

    def _shared(self, lab: LabState) -> Path:
        """The directory that every node of the lab sees, at SHARED."""
        path = lab.directory / "shared"
        path.mkdir(exist_ok=True)
        return path

    def _disks(self, lab: LabState, node: str) -> list[str]:
        """A sparse file behind a loop device for each additional disk, under the name a VM's disk has."""
        files = lab.node_directory(node) / "disks"
        return [
            f"--bind={loops.attach(files / f'{disk.name}.img', disk.size)}:{disk.device}"
            for disk in lab.spec.nodes[node].disks
        ]

    def _nspawn_pid(self, lab: LabState, node: str) -> int:
        """The pid of the machine's nspawn process, 0 when it does not run."""
        path = lab.node_directory(node) / "machine.json"
        if not path.exists():
            return 0
        record = json.loads(path.read_text())
        started = _start_time(record["pid"])
        return int(record["pid"]) if started and started == record["started"] else 0

    def _init_pid(self, nspawn: int) -> int:
        """The pid of the container's init."""
        try:
            children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def stop(self, lab: LabState, node: str, seconds: float) -> None:
        pid = self._nspawn_pid(lab, node)
        if pid and (init := self._init_pid(pid)):
            os.kill(init, _HALT)
            deadline = time.monotonic() + seconds
            while self._nspawn_pid(lab, node) and time.monotonic() < deadline:
                time.sleep(0.1)
        if left := cgroup.kill(lab.name, node):
            raise BrokenLabError(f"{node}: processes {left} do not end", "ps -fp PID")

    def destroy(self, lab: LabState, node: str) -> list[str]:
        left = [f"process {pid} of {node}" for pid in cgroup.kill(lab.name, node)]
        root = lab.node_directory(node) / "root"
        while _mounted(root):
            done = process.run(["umount", root], check=False)
            if done.returncode != 0:
                process.run(["umount", "--lazy", root], check=False)
                left.append(f"mount {root}: {done.stderr.strip()} (detached)")
                break
        left += loops.detach_all(lab.node_directory(node))
        if not left and not _mounted(root):
            shutil.rmtree(lab.node_directory(node), ignore_errors=True)
        return left

    def machine(self, lab: LabState, node: str) -> Machine:
        exists = _mounted(lab.node_directory(node) / "root")
        pid = self._nspawn_pid(lab, node)
        return Machine(node, exists, bool(pid), f"pid {pid}" if pid else "")

    # --- access --------------------------------------------------------------------------------

    def connect(self, lab: LabState, node: str, seconds: float) -> Session:
        address = str(lab.spec.address(lab.spec.nodes[node]))

        def connector(timeout: float) -> socket.socket:
            if not self._nspawn_pid(lab, node):
                raise BrokenLabError(
                    f"{node} of {lab.name} does not run; its last console lines:\n{self._console_tail(lab, node)}",
                    f"labctl up {lab.name}",
                )
            return vantage.connect(lab.namespace, address, 22, timeout)

        return ssh_connect(connector, node, "root", lab.private_key(), lab.host_key(node), timeout=seconds)

    def _console_tail(self, lab: LabState, node: str) -> str:
        path = self.console(lab, node)
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else "(none)"

    def console(self, lab: LabState, node: str) -> Path:
        return lab.node_directory(node) / "console.log"

    def create_network(self, lab: LabState) -> None:
        network.create(lab.spec)

    def destroy_network(self, lab: LabState) -> list[str]:
        left = network.delete(lab.name)
        return left + [f"process {pid}" for pid in cgroup.kill(lab.name)]

    def cpu_seconds(self, lab: LabState) -> float:
        return cgroup.cpu_seconds(lab.name)
