"""Servers of a cloud in the lab's own networks, reached through a gateway from the lab's namespace."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from labctl.drivers import halt, reach
from labctl.drivers.base import Capabilities, Machine, shutdown_order
from labctl.drivers.libvirt import seed
from labctl.drivers.openstack import flavors, frozen, leftovers, mtu, ports, quota, tunnel, uploads
from labctl.drivers.openstack.cloud import Cloud, Refusal, opened
from labctl.drivers.openstack.frozen import Disks
from labctl.drivers.openstack.networks import GATEWAY, Networks, Outside, external
from labctl.drivers.openstack.servers import POWER, Servers
from labctl.errors import BrokenLabError, LabError
from labctl.host import files, links, network, process, state
from labctl.host.links import Shape
from labctl.host.ssh import Session
from labctl.host.threads import on_each
from labctl.images import cloud as images
from labctl.images import gateway, golden, store
from labctl.progress import step, warn
from labctl.records import clouds
from labctl.records.lab import Lab

#: Files of a machine: it was created; what it is made of.
MADE, ORIGIN = "made", "origin.json"
#: What a kernel writes last.
POWERED_OFF = "reboot: Power down"
#: What nova answers when it is asked for the console of a machine that is off.
_NO_CONSOLE = (404, 409)


class OpenStack:
    """The driver ``openstack``.

    :param name: the cloud, of clouds.yaml or ``lab:NAME``.
    """

    name = "openstack"

    def __init__(self, name: str = "") -> None:
        self._cloud_name = name

    @cached_property
    def cloud(self) -> Cloud:
        """The cloud.

        :raises LabError: none was named.
        """
        if not self._cloud_name:
            raise LabError("the driver openstack needs a cloud", "the same command with --cloud NAME")
        return opened(self._cloud_name)

    # --- capabilities ----------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """1, but 10 on a lab whose hypervisor emulates."""
        return self.cloud.patience

    def mtu(self, lab: str) -> int:
        return mtu.carried(self.cloud, lab)

    def capabilities(self) -> Capabilities:
        # the machines' kernel is labctl's own; whether a cloud carries VLAN tags, its API does not say
        return Capabilities(
            own_kernel=True, block_devices=True, device_mapper=True, openvswitch=True, vlan=False, nested_kvm=False
        )

    def probe(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the driver openstack needs root to create namespaces", "the same command with sudo")
        if absent := process.missing("ip", "ssh", "qemu-img"):
            raise LabError(f"the driver openstack needs {', '.join(absent)}", "labctl doctor")
        for service in ("compute", "network", "image"):
            if not self.cloud.has(service):
                raise LabError(
                    f"the cloud {self.cloud.name} has no service of the type {service}",
                    self.cloud.command("catalog list"),
                )

    @store.keeping()
    def image(self, lab: Lab) -> tuple[Path, ...]:
        if lab.layers:
            (found,) = lab.layers
            if not (found / "tree").is_dir():
                raise BrokenLabError(
                    f"the image {found}, used by {lab.name}, is gone", f"labctl down {lab.name}; {lab.up()}"
                )
            return lab.layers
        return (images.ensure(golden.ensure(lab.spec.base, lab.spec.package_source, lab.spec.release)),)

    # --- network ---------------------------------------------------------------------------------

    def create_network(self, lab: Lab) -> None:
        cloud, nets = self.cloud, Networks(self.cloud, lab)
        servers = Servers(cloud, lab)
        new = lab.name not in clouds.known()
        if new:
            self._refuse(lab)
            clouds.remember(lab.name, cloud.name)
        if lab.spec.anti_affinity:
            servers.apart()  # before the nodes, which are made side by side
        network.create(lab.spec)
        if not tunnel.broken(lab):
            return
        network.pin(lab.spec)
        with step("cloud", f"networks of {lab.name} on {cloud.name}"):
            nets.lay()
            outside = nets.way_in()
        there = servers.find(GATEWAY)
        if there is None:
            self._make_gateway(lab, nets, servers, outside)
        elif there["status"] == "SHUTOFF":
            servers.act(GATEWAY, there["id"], "os-start", "ACTIVE")
        address = nets.floating_ip(nets.outside_port(outside.id))
        tunnel.ensure(lab, cloud, address)

    def _refuse(self, lab: Lab) -> None:
        """Say what the cloud cannot do for a lab before anything is made.

        :raises LabError: it has no floating IPs, no volumes, no room, lets the lab's packets not pass, or the lab's
            networks have VLAN tags.
        """
        if any(each.wire for each in lab.spec.networks.values()):
            raise LabError(
                f"{lab.spec.topology} has networks with VLAN tags, which a cloud's networks do not carry",
                f"{lab.up()} with another driver",
            )
        if any(node.disks for node in lab.spec.nodes.values()) and not self.cloud.has("block-storage"):
            raise LabError(
                f"{lab.spec.topology} has additional disks; the cloud {self.cloud.name} has no volumes",
                self.cloud.command("catalog list"),
            )
        ports.check(self.cloud, lab)
        external(self.cloud)
        quota.check(self.cloud, lab)

    def _make_gateway(self, lab: Lab, nets: Networks, servers: Servers, outside: Outside) -> None:
        image = uploads.ensure(self.cloud, gateway.ensure())
        tunnel.ensure_key(lab)
        ports = [nets.outside_port(outside.id), *(nets.gateway_card(each.name) for each in lab.spec.segments)]
        with step("cloud", f"gateway of {lab.name}"):
            servers.make(
                GATEWAY,
                image=image,
                flavor=flavors.flavor(self.cloud, lab, *quota.GATEWAY),
                ports=ports,
                user_data=images.user_data(seed.mark(lab, GATEWAY), tunnel.gateway_files(lab, outside)),
                volumes={},
            )

    def destroy_network(self, lab: Lab) -> list[str]:
        left = tunnel.close(lab.name) + leftovers.sweep(lab.name)
        return left + network.delete(lab.name)

    # --- life ------------------------------------------------------------------------------------

    def create(self, lab: Lab, node: str) -> None:
        own = lab.node_directory(node)
        files.make_directories(own)
        mark = lab.top / node / frozen.RESTORE
        if mark.exists():
            wanted = state.read(mark, Disks, f"labctl snapshot list {lab.name}")
            if left := leftovers.remove(self.cloud, lab.name, node, keep_frozen=True):
                raise BrokenLabError(f"{node} of {lab.name} cannot be replaced: {', '.join(left)}", lab.up())
            files.write_atomic(own / ORIGIN, wanted.model_dump_json())
            files.erase(mark)
        elif not (own / ORIGIN).exists():
            (image,) = lab.layers
            made = Disks(lab=lab.id, image=uploads.ensure(self.cloud, image))
            files.write_atomic(own / ORIGIN, made.model_dump_json())
        files.write_atomic(own / MADE, "")

    def start(self, lab: Lab, node: str) -> None:
        servers = Servers(self.cloud, lab)
        there = servers.find(node)
        halt.forget(lab, node)
        if there is None:
            self._make(lab, node, servers)
        elif there["status"] == "SHUTOFF":
            servers.act(node, there["id"], "os-start", "ACTIVE")
        elif there["status"] == "ERROR":
            servers.until(node, there["id"], "ACTIVE", POWER)

    def _make(self, lab: Lab, node: str, servers: Servers) -> None:
        origin = state.read(lab.node_directory(node) / ORIGIN, Disks, f"labctl down {lab.name}")
        spec, nets = lab.spec.nodes[node], Networks(self.cloud, lab)
        volumes = {
            disk.name: servers.volume(node, disk.name, disk.size, origin.volumes.get(disk.name, ""))
            for disk in spec.disks
        }
        mark = f"{seed.mark(lab, node)}{' '.join(volumes.values())}\n"
        servers.make(
            node,
            image=origin.image,
            flavor=flavors.flavor(self.cloud, lab, spec.cpus, spec.memory, spec.disk),
            ports=[nets.card(node, card, each) for card in spec.interfaces for each in card.cards],
            user_data=images.user_data(mark, {**seed.files(lab, node), **_disk_names(volumes)}),
            volumes=volumes,
            group=servers.apart() if lab.spec.anti_affinity else "",
        )

    def stop(self, lab: Lab, node: str, seconds: float) -> bool:
        servers = Servers(self.cloud, lab)
        there = servers.find(node)
        if there is None or there["status"] == "SHUTOFF":
            return True
        in_time = False
        with halt.told(lab, node):
            if there["status"] == "PAUSED":
                servers.act(node, there["id"], "unpause", "ACTIVE")
            if seconds and there["status"] in ("ACTIVE", "PAUSED"):
                in_time = self._shut_down(lab, node, servers, there["id"], seconds)
            servers.act(node, there["id"], "os-stop", "SHUTOFF")
        return in_time

    def _shut_down(self, lab: Lab, node: str, servers: Servers, server: str, seconds: float) -> bool:
        """Tell a machine to shut down, and wait for its kernel's last words: nova learns of its end only later."""
        deadline = time.monotonic() + seconds * self.patience
        with suppress(LabError), self.connect(lab, node, min(seconds, 20)) as session:
            session.run("poweroff", timeout=10)
        while time.monotonic() < deadline:
            try:
                if POWERED_OFF in servers.console(server, 20):
                    return True
            except Refusal as error:
                if error.status in _NO_CONSOLE:
                    return True
                raise
            time.sleep(0.5)
        return False

    def destroy(self, lab: Lab, node: str) -> list[str]:
        left = leftovers.sweep(lab.name, node, keep_frozen=True)
        if not left:
            files.remove(lab.top / node)
            files.remove(lab.node_directory(node))
        return left

    def machine(self, lab: Lab, node: str) -> Machine:
        exists = (lab.node_directory(node) / MADE).exists()
        there = Servers(self.cloud, lab).find(node) if exists else None
        status = there["status"] if there else ""
        detail = f"server {there['id']} of {self.cloud.name}" if there else ""
        if status == "ERROR" and there:
            detail += f": {there.get('fault', {}).get('message', 'in error')}"
        running = status in ("ACTIVE", "PAUSED", "REBOOT", "HARD_REBOOT", "PASSWORD")
        return Machine(node, exists, running, detail, paused=status == "PAUSED")

    remains = staticmethod(leftovers.remains)

    def sweep(self, name: str) -> list[str]:
        return leftovers.sweep(name)

    def litter(self, recorded: set[str]) -> list[Path]:
        return []

    def lost(self, lab: Lab, node: str) -> str:
        return halt.cut_short(lab, node) or tunnel.broken(lab)

    # --- snapshots ---------------------------------------------------------------------------------

    def rest(self, lab: Lab, seconds: float) -> None:
        def end(node: str) -> None:
            if not self.stop(lab, node, seconds) and seconds:
                warn(node, f"did not shut down within {seconds:g} s and was powered off")

        for group in shutdown_order(lab.spec):
            on_each(end, group)

    def branch(self, lab: Lab, stack: tuple[str, ...], layer: str) -> None:
        frozen.branch(self.cloud, lab, stack, layer)

    def tidy(self, lab: Lab) -> list[str]:
        return frozen.tidy(self.cloud, lab)

    def needs(self, lab: Lab, layer: str) -> dict[str, str]:
        raise LabError(
            f"a lab on a cloud cannot be exported: its snapshots are kept by {self.cloud.name}, not in files",
            "the same topology with --driver libvirt",
        )

    def adopt(self, lab: Lab, needs: Mapping[str, str]) -> None:
        raise LabError("snapshots of labs on clouds cannot be imported: they cannot be exported")

    # --- faults ------------------------------------------------------------------------------------

    def pause(self, lab: Lab, node: str) -> None:
        servers = Servers(self.cloud, lab)
        there = servers.find(node)
        if there is None or there["status"] not in ("ACTIVE", "PAUSED"):
            raise LabError(f"{node} of {lab.name} is not running", f"labctl repair {lab.name}")
        if there["status"] != "PAUSED":
            servers.act(node, there["id"], "pause", "PAUSED")

    def resume(self, lab: Lab, node: str) -> None:
        servers = Servers(self.cloud, lab)
        there = servers.find(node)
        if there is not None and there["status"] == "PAUSED":
            servers.act(node, there["id"], "unpause", "ACTIVE")

    def plug(self, lab: Lab, node: str, network: str, up: bool) -> None:
        Networks(self.cloud, lab).plug(node, links.card(lab.spec, node, network), up)

    def shape(self, lab: Lab, node: str, network: str, shape: Shape) -> None:
        links.card(lab.spec, node, network)
        if shape != links.WHOLE:
            raise LabError(
                f"the links of a cloud's servers take no {shape}: that needs the hypervisor's host",
                f"labctl fault {lab.name} link cut {node} {network}",
            )

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
            hint=self.cloud.command(f"console log show {lab.name}.{node}"),
        )

    def console(self, lab: Lab, node: str) -> Path:
        path = lab.node_directory(node) / "console.log"
        servers = Servers(self.cloud, lab)
        with suppress(LabError):  # a cloud may offer no consoles
            if there := servers.find(node):
                files.write_atomic(path, servers.console(there["id"]), 0o600)
        return path

    def cpu_seconds(self, lab: Lab) -> float:
        """None: what servers used, a cloud does not tell a project."""
        return 0.0


def _disk_names(volumes: Mapping[str, str]) -> dict[str, tuple[bytes, int]]:
    """Rules for udev that give volumes, whose serial numbers are their ids, the names of a topology's disks."""
    lines = [
        f'SUBSYSTEM=="block", ENV{{DEVTYPE}}=="disk", ENV{{ID_SERIAL}}=="{volume[:20]}", '
        f'SYMLINK+="disk/by-id/virtio-{disk}"\n'
        for disk, volume in volumes.items()
    ]
    return {"etc/udev/rules.d/61-labctl-disks.rules": ("".join(lines).encode(), 0o644)} if lines else {}
