"""A lab's own libvirtd, in the lab's namespace, which Vagrant's provider libvirt talks to.

Vagrant's networks have bridges with addresses, a DHCP server and packet filters where libvirtd runs, and Vagrant
reaches its machines through them. In the lab's namespace none of that touches the host's interfaces or routes,
and labs with the same addresses do not conflict. The daemon uses the lab's directories, so it sees only the lab's
machines; its processes are in the lab's control group, so they can be ended even if its records are lost.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as tree

from labctl.drivers import VAGRANT_ADDRESS
from labctl.drivers.libvirt import daemon
from labctl.drivers.libvirt.connection import Connection, asked, library, translated
from labctl.drivers.vagrant import document
from labctl.errors import DeadlineError, LabError
from labctl.host import cgroup, files, network, paths, process
from labctl.images import kvm
from labctl.progress import note
from labctl.records.lab import Lab

OWN = Path(__file__).with_name("own.sh")
#: The daemon's control group, beside those of nodes, whose names have no underscore.
GROUP = "_libvirtd"
POOL = "default"
_SECONDS = 30
#: Files keep their owners, and what would need a system daemon is off.
QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
cgroup_controllers = [ ]
namespaces = [ ]
"""
LIBVIRTD_CONF = 'auth_unix_rw = "none"\nauth_unix_ro = "none"\nunix_sock_rw_perms = "0700"\n'

_connections: dict[str, Connection] = {}


def run_directory(name: str) -> Path:
    """The directory of a lab daemon's sockets; named by home and lab, short because socket paths are limited."""
    return daemon.RUN / f"vagrant-{paths.mark()}-{name}"


@dataclass(frozen=True)
class Hypervisor:
    """One lab's libvirt."""

    lab: Lab

    @property
    def run(self) -> Path:
        """Its sockets."""
        return run_directory(self.lab.name)

    @property
    def state(self) -> Path:
        """Its state."""
        return self.lab.directory / "vagrant" / "libvirt"

    @property
    def pool(self) -> Path:
        """The disks of its machines."""
        return self.lab.directory / "vagrant" / "pool"

    @property
    def uri(self) -> str:
        """Its URI, valid in any namespace."""
        return f"qemu+unix:///system?socket={self.run}/libvirt-sock"

    @property
    def answers(self) -> bool:
        """True when it is running."""
        return daemon.accepts(self.run / "libvirt-sock")

    @property
    def connection(self) -> Connection:
        """This process's connection to it."""
        return _connections.setdefault(self.uri, Connection(self.uri))

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it in the lab's namespace; idempotent.

        :raises LabError: libvirt is not installed, or does not start.
        :raises DeadlineError: it does not answer.
        """
        if self.answers:
            return
        if daemon.program("libvirtd") is None:
            raise LabError(
                "libvirt's libvirtd is not installed",
                "apt-get install --no-install-recommends libvirt-daemon-system libvirt-clients dnsmasq-base",
            )
        self._end()
        for path in (self.run, self.state / "etc", self.state / "lib", self.state / "log", self.pool):
            files.make_directories(path)
        files.set_mode(self.run, 0o700)
        files.write_atomic(self.state / "etc/qemu.conf", QEMU_CONF)
        files.write_atomic(self.state / "etc/libvirtd.conf", LIBVIRTD_CONF)
        note("host", "starting a libvirtd for the lab's machines in the lab's namespace")
        done = process.run(self._command(), check=False, timeout=60, outlives=True)
        deadline = time.monotonic() + _SECONDS
        while done.returncode == 0 and not self.answers:
            if time.monotonic() > deadline:
                raise DeadlineError(f"the lab's libvirtd did not answer within {_SECONDS} s", f"ls {self.state}/log")
            time.sleep(0.1)
        if done.returncode != 0:
            raise LabError(f"the lab's libvirtd failed to start: {done.stderr.strip()[-500:]}", "libvirtd --verbose")

    def _command(self) -> list[str | Path]:
        program: list[str | Path] = ["libvirtd", "--daemon", "--pid-file", self.run / "libvirtd.pid"]
        if kvm.DEVICE.exists() and not kvm.examine().works:
            program = ["sh", "-c", daemon.WITHOUT_KVM, "sh", self.run / "dev", *program]
        inside = f"--net={network.NETNS / network.lab_namespace(self.lab.name)}"
        apart: list[str | Path] = ["unshare", "--mount", "--propagation", "slave", "sh", OWN, self.run, self.state]
        return [*cgroup.joining(self.lab.name, GROUP), "nsenter", inside, *apart, *program]

    def stop(self) -> list[str]:
        """Stop it and all its machines; returns what did not end."""
        if (connection := _connections.pop(self.uri, None)) is not None:
            with suppress(LabError):  # already gone
                connection.close()
        left = [f"process {pid} of the lab's libvirtd" for pid in self._end()]
        files.remove(self.run, within=daemon.RUN)
        return left

    def _end(self) -> list[int]:
        return cgroup.kill(self.lab.name, GROUP)

    # --- contents ----------------------------------------------------------------------------------

    def furnish(self) -> None:
        """Define what Vagrant expects or would create itself: a pool, its own network, the lab's networks."""
        handle = self.connection.get()
        with translated("the lab's libvirt"):
            if POOL not in [pool.name() for pool in handle.listAllStoragePools()]:
                handle.storagePoolDefineXML(_pool(self.pool)).setAutostart(1)
            pool = handle.storagePoolLookupByName(POOL)
            if not pool.isActive():
                pool.create()
            there = [found.name() for found in handle.listAllNetworks()]
            for name, text in self._networks().items():
                if name not in there:
                    handle.networkDefineXML(text)
                found = handle.networkLookupByName(name)
                if not found.isActive():
                    found.create()

    def _networks(self) -> dict[str, str]:
        spec = self.lab.spec
        found = {document.VAGRANT_NETWORK: _vagrant_network()}
        for each in spec.segments:
            name = document.provider_name(spec.name, each.name)
            found[name] = _bridged(name, network.bridge(spec, each.name))
        return found

    def stock(self, disk: Path, volume: str) -> None:
        """Put a box's disk into the pool, where Vagrant looks before it copies, as a hard link if possible."""
        target = self.pool / volume
        if target.exists():
            return
        new = target.with_name(f".{volume}.new")
        files.erase(new)
        try:
            files.name_again(disk, new)
        except OSError:  # another file system
            files.copy(disk, new, 0o644)
        files.move(new, target)
        with translated("the lab's libvirt"):
            self.connection.get().storagePoolLookupByName(POOL).refresh()

    def domain(self, node: str) -> Any | None:
        """A node's domain, running or not; None when there is none, or the daemon is not running."""
        return self.connection.find(f"{document.prefix(self.lab.name)}{node}") if self.answers else None

    def discard(self, node: str) -> list[str]:
        """Remove a node's domain, snapshots and disks without Vagrant; returns what could not be removed."""
        domain = self.domain(node)
        if domain is not None:
            libvirt = library()
            flags = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            try:
                with translated(f"domain {domain.name()}"):
                    if domain.isActive():
                        domain.destroy()
                    domain.undefineFlags(flags)
            except LabError as error:
                return [error.message]
        name = f"{document.prefix(self.lab.name)}{node}"
        for path in (*self.pool.glob(f"{name}.img"), *self.pool.glob(f"{name}-vd*")):
            files.erase(path)
        return []

    def memory(self) -> list[Any]:
        """Its running domains."""
        return self.connection.domains() if self.answers else []

    def state_of(self, node: str) -> tuple[bool, bool]:
        """Whether a node's domain is running, and whether it is paused."""
        domain = self.domain(node)
        state = asked(domain.state) if domain is not None else None
        if state is None or domain is None:
            return False, False
        return bool(domain.isActive()), state[0] == library().VIR_DOMAIN_PAUSED


def _pool(path: Path) -> str:
    pool = tree.Element("pool", type="dir")
    tree.SubElement(pool, "name").text = POOL
    tree.SubElement(tree.SubElement(pool, "target"), "path").text = str(path)
    return tree.tostring(pool, encoding="unicode")


def _vagrant_network() -> str:
    """The network that vagrant-libvirt would create itself: DHCP, with the first address on the host side."""
    host, _, prefix = VAGRANT_ADDRESS.rpartition(".0/")
    found = tree.Element("network", ipv6="yes")
    tree.SubElement(found, "name").text = document.VAGRANT_NETWORK
    tree.SubElement(found, "bridge", name="virbr0", stp="off", delay="0")
    ip = tree.SubElement(found, "ip", address=f"{host}.1", prefix=prefix)
    tree.SubElement(tree.SubElement(ip, "dhcp"), "range", start=f"{host}.2", end=f"{host}.254")
    return tree.tostring(found, encoding="unicode")


def _bridged(name: str, bridge: str) -> str:
    """A network on a bridge in the lab's namespace."""
    found = tree.Element("network")
    tree.SubElement(found, "name").text = name
    tree.SubElement(found, "forward", mode="bridge")
    tree.SubElement(found, "bridge", name=bridge)
    return tree.tostring(found, encoding="unicode")
