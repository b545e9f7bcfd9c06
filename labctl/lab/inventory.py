"""A lab's inventory as its services report it: agents, services, every project's objects, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openstack.connection import Connection


def _rows(title: str, source: Callable[[], Iterable[Any]], fields: str) -> list[str]:
    try:
        found = [", ".join(f"{f}={getattr(x, f)}" for f in fields.split()) for x in source()]
    except Exception as error:  # one API that is down must not hide the others
        found = [f"(not listed: {type(error).__name__}: {error})"]
    return [f"=== {title}", *found]


def states_text(admin: Connection, components: frozenset[str]) -> str:
    """Compute services, hypervisors, network agents and volume services, as the APIs report them."""
    lines = [
        *_rows("compute services", admin.compute.services, "binary host status state updated_at"),
        *_rows("hypervisors", lambda: admin.compute.hypervisors(details=True), "name status state"),
        *_rows("network agents", admin.network.agents, "binary host is_alive last_heartbeat_at"),
    ]
    if "cinder-controller" in components:
        fields = "binary host status state updated_at"
        lines += _rows("volume services", admin.block_storage.services, fields)
        lines += _rows("volumes", lambda: admin.block_storage.volumes(all_projects=True), "id name status attachments")
    return "\n".join(lines) + "\n"


def inventory_text(admin: Connection, components: frozenset[str]) -> str:
    """Resources of all projects: servers, networks, subnets, routers, ports, floating IPs, images."""
    net, servers = admin.network, "id name status vm_state task_state compute_host addresses fault"
    lines = _rows("images", admin.image.images, "id name status size")
    if "nova-controller" in components:
        lines += _rows("servers", lambda: admin.compute.servers(all_projects=True), servers)
    if "neutron-server" in components:
        lines += [
            *_rows("networks", net.networks, "id name status provider_network_type provider_segmentation_id"),
            *_rows("subnets", net.subnets, "id name network_id cidr gateway_ip allocation_pools"),
            *_rows("routers", net.routers, "id name status external_gateway_info"),
            *_rows("ports", net.ports, "id status device_owner device_id binding_host_id fixed_ips mac_address"),
            *_rows("floating IPs", net.ips, "id status floating_ip_address fixed_ip_address port_id"),
        ]
    return "\n".join(lines) + "\n"
