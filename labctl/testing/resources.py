"""Resources of a test's project: networks, security groups, servers, addresses, volumes."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import NotFoundException

from labctl.errors import BrokenLabError
from labctl.records.access import Access
from labctl.testing.projects import Project
from labctl.testing.waits import wait_for

ACTIVE_DEADLINE = 180  # seconds
GONE_DEADLINE = 120
VOLUME_DEADLINE = 180
CIDR = "172.16.77.0/24"  # every project has its own router namespace, so all may use the same


class Names:
    """Unique names: ``e2e-<worker>-<random>-<label>``."""

    def __init__(self, worker: str) -> None:
        self._stem = f"e2e-{worker}-{secrets.token_hex(3)}"
        self._count = 0

    def __call__(self, label: str = "x") -> str:
        self._count += 1
        clean = re.sub(r"[^a-z0-9-]+", "-", label.lower()).strip("-")
        return f"{self._stem}-{self._count}-{clean}"


@dataclass(frozen=True)
class Net:
    """A self-service network with one subnet, and the router to the network with the id ``external``."""

    network: Any
    subnet: Any
    router: Any
    external: str

    @property
    def id(self) -> str:
        """The network's id."""
        return str(self.network.id)


#: Cached ids of what `up` created, by lab, kind and name: they are the same for all tests of a run.
_ids: dict[tuple[str, str, str], str] = {}


def _made_by_up(project: Project, kind: str, name: str, find: Callable[[str], Any]) -> str:
    """The id of a resource that `up` created, as the project sees it; looked up once and cached.

    :raises BrokenLabError: the resource is not visible to the project.
    """
    lab = project.lab.lab
    key = (lab, kind, name)
    if key not in _ids:
        found = find(name)
        if found is None:
            raise BrokenLabError(f"lab {lab}: {kind} {name!r} is not visible to projects", project.lab.up)
        _ids[key] = str(found.id)
    return _ids[key]


def external_network_id(project: Project, name: str = "") -> str:
    """The id of one of the lab's provider networks; of the external network when no name is given."""
    wanted = name or project.lab.external_network
    return _made_by_up(project, "network", wanted, project.connection.network.find_network)


def make_network(project: Project, name: str, cidr: str = CIDR, external: str = "", network: Any = None) -> Net:
    """A network, a subnet with DHCP, and a router with an external network as its gateway.

    :param external: the name of that network, instead of the lab's first.
    :param network: a network of the project's, instead of a new one.
    """
    net = project.connection.network
    external = external_network_id(project, external)
    network = network or net.create_network(name=name)
    subnet = net.create_subnet(name=name, network_id=network.id, ip_version=4, cidr=cidr)
    router = net.create_router(name=name, external_gateway_info={"network_id": external})
    net.add_interface_to_router(router.id, subnet=subnet.id)
    return Net(network, subnet, router, external)


def allow(project: Project, group: Any, protocol: str, port: int | None = None, source: str = "0.0.0.0/0") -> Any:
    """Add an ingress rule to a security group and return it; of IPv6, if the source is."""
    attrs: dict[str, Any] = {} if port is None else {"port_range_min": port, "port_range_max": port}
    return project.connection.network.create_security_group_rule(
        security_group_id=group.id,
        direction="ingress",
        ether_type="IPv6" if ":" in source else "IPv4",
        protocol=protocol,
        remote_ip_prefix=source,
        **attrs,
    )


def make_security_group(project: Project, name: str) -> Any:
    """A security group that allows ping and SSH."""
    group = project.connection.network.create_security_group(name=name, description="labctl e2e")
    allow(project, group, "icmp")
    allow(project, group, "tcp", 22)
    return group


def image_id(project: Project) -> str:
    """The id of the lab's guest image."""
    return _made_by_up(project, "image", project.lab.image, project.connection.image.find_image)


def flavor_id(project: Project, name: str = "") -> str:
    """The id of a flavor; of the lab's smallest one when no name is given."""
    wanted = name or project.lab.flavors[0]
    return _made_by_up(project, "flavor", wanted, project.connection.compute.find_flavor)


def wants_config_drive(lab: Access) -> bool:
    """Whether servers of this lab need a configuration drive: CirrOS retries the metadata service for a minute, and
    requests the key once, with a timeout of ten seconds; emulated nodes may take longer to answer."""
    return lab.patience > 1


def create_server(
    project: Project,
    name: str,
    *,
    network: str,
    key_name: str,
    group: str,
    flavor: str = "",
    user_data: str = "",
    boot_volume: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Any:
    """Ask nova for a server; return without waiting.

    :param boot_volume: id of a bootable volume, used instead of the lab's image.
    """
    attrs: dict[str, Any] = {
        "name": name,
        "flavor_id": flavor_id(project, flavor),
        "networks": [{"uuid": network}],
        "key_name": key_name,
        "security_groups": [{"name": group}],
        **(extra or {}),
    }
    if user_data:
        attrs["user_data"] = base64.b64encode(user_data.encode()).decode()
    if boot_volume:
        attrs["block_device_mapping"] = [
            {
                "boot_index": 0,
                "uuid": boot_volume,
                "source_type": "volume",
                "destination_type": "volume",
                "delete_on_termination": False,
            }
        ]
    else:
        attrs["image_id"] = image_id(project)
    if wants_config_drive(project.lab):
        attrs["has_config_drive"] = True
    return project.connection.compute.create_server(**attrs)


def fault(server: Any) -> str | None:
    """Why a server has failed for good, or None: its status ERROR and nova's fault."""
    if server.status != "ERROR":
        return None
    said = server.fault or {}
    return f"server {server.name} {server.id} is in ERROR: {said.get('message', 'nova reports no fault')}"


def _state(server: Any) -> str:
    return f"{server.name}: status {server.status}, task {server.task_state}, vm {server.vm_state}"


def wait_server(connection: Connection, server: Any, status: str = "ACTIVE", deadline: float = ACTIVE_DEADLINE) -> Any:
    """Wait until a server has the status and no task; fail at once, with the fault, on ERROR."""
    return wait_for(
        f"server {server.name} to be {status}",
        lambda: connection.compute.get_server(server.id),
        done=lambda seen: seen.status == status and not seen.task_state,
        failed=fault,
        deadline=deadline,
        show=_state,
    )


def _still_there(connection: Connection, server_id: str) -> Any:
    try:
        return connection.compute.get_server(server_id)
    except NotFoundException:
        return None


def delete_server(connection: Connection, server: Any, deadline: float = GONE_DEADLINE) -> None:
    """Delete a server and wait until nova no longer lists it."""
    connection.compute.delete_server(server.id)
    wait_for(
        f"server {server.name} to be gone",
        lambda: _still_there(connection, server.id),
        done=lambda seen: seen is None,
        failed=lambda seen: fault(seen) if seen.task_state is None else None,
        deadline=deadline,
        show=_state,
    )


def port_of(project: Project, server: Any) -> Any:
    """The one neutron port of a server."""
    (port,) = project.connection.network.ports(device_id=server.id)
    return port


def fixed_address(project: Project, server: Any) -> str:
    """The IPv4 address that neutron allocated to a server."""
    addresses = [str(fixed["ip_address"]) for fixed in port_of(project, server).fixed_ips]
    return next(address for address in addresses if ":" not in address)


def floating_address(project: Project, server: Any, external: str = "") -> str:
    """The server's floating IP, created if it has none.

    :param external: the id of the network to create it in, instead of the lab's first.
    """
    net = project.connection.network
    port = port_of(project, server)
    for known in net.ips(port_id=port.id):
        return str(known.floating_ip_address)
    made = net.create_ip(floating_network_id=external or external_network_id(project), port_id=port.id)
    return str(made.floating_ip_address)


def console(connection: Connection, server: Any) -> str:
    """The console log of a server; empty while it has none."""
    return str(connection.compute.get_server_console_output(server.id).get("output") or "")


def wait_volume(
    connection: Connection, volume: Any, status: str = "available", deadline: float = VOLUME_DEADLINE
) -> Any:
    """Wait until a volume has the status; fail at once on an error status."""
    return wait_for(
        f"volume {volume.name} to be {status}",
        lambda: connection.block_storage.get_volume(volume.id),
        done=lambda seen: seen.status == status,
        failed=lambda seen: f"status {seen.status}" if seen.status.startswith("error") else None,
        deadline=deadline,
        show=lambda seen: f"status {seen.status}",
    )


def wait_snapshot(connection: Connection, snapshot: Any) -> Any:
    """Wait until a volume's snapshot is available; fail at once on an error status."""
    return wait_for(
        "the snapshot to be available",
        lambda: connection.block_storage.get_snapshot(snapshot.id),
        done=lambda seen: seen.status == "available",
        failed=lambda seen: seen.status if seen.status.startswith("error") else None,
        deadline=VOLUME_DEADLINE,
        show=lambda seen: seen.status,
    )


def attach(connection: Connection, server: Any, volume: Any) -> None:
    """Attach a volume and wait until cinder reports it in-use."""
    connection.compute.create_volume_attachment(server, volume=volume)
    wait_volume(connection, volume, "in-use")


def detach(connection: Connection, server: Any, volume: Any) -> None:
    """Detach a volume and wait until cinder reports it available."""
    connection.compute.delete_volume_attachment(server, volume, ignore_missing=False)
    wait_volume(connection, volume)


def wait_servers(connection: Connection, servers: Sequence[Any]) -> list[Any]:
    """Wait until all servers are ACTIVE; they boot in parallel."""
    return [wait_server(connection, server) for server in servers]
