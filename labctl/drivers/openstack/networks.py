"""A lab's networks on a cloud, each a layer-2 segment without anything of the cloud's own in it, and its way in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from labctl.drivers.openstack import marks, ports
from labctl.drivers.openstack.cloud import Cloud
from labctl.errors import DeadlineError, LabError
from labctl.host.network import own_mac
from labctl.records.lab import Lab
from labctl.topology.spec import CardSpec, InterfaceSpec

#: The gateway's own network, which leads to the cloud's router; of a range for benchmarks (RFC 2544), free in labs.
OUTSIDE_CIDR, OUTSIDE_ADDRESS, OUTSIDE_ROUTER = "198.18.77.0/29", "198.18.77.2", "198.18.77.1"
#: Addresses of ports whose cards have none: nova refuses a port without one. Nothing ever sends from them.
BARE_CIDR = "198.19.0.0/16"
#: Seconds for the agents of a cloud's network to turn a port on or off.
PLUG = 60.0
#: Parts of a lab that are no node; nodes' names have no underscore.
OUTSIDE, GATEWAY = "_outside", "_gateway"


def segment(network: str) -> str:
    """The part of a lab that a network is."""
    return f"_net-{network}"


def _bare(network: str) -> str:
    """The name of the subnet for ports whose cards have no address in a network."""
    return f"{network}.bare"


@dataclass(frozen=True)
class Outside:
    """The gateway's own network: its id, and the bytes of the largest packet in it."""

    id: str
    mtu: int


def external(cloud: Cloud) -> dict[str, Any]:
    """The network that floating IPs are from.

    :raises LabError: the cloud has none.
    """
    found = cloud.get("network", "/v2.0/networks", {"router:external": True})["networks"]
    if not found:
        raise LabError(
            f"the cloud {cloud.name} has no external network: the gateway of a lab needs a floating IP",
            cloud.command("network list --external"),
        )
    preferred = sorted(found, key=lambda each: (not each.get("is_default"), each["name"]))
    return dict(preferred[0])


class Networks:
    """The networks, ports and router of one lab."""

    def __init__(self, cloud: Cloud, lab: Lab) -> None:
        self._cloud, self._lab = cloud, lab

    def _ensure(self, kind: str, part: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return ports.owned(self._cloud, self._lab, kind, part, name, body)

    # --- networks --------------------------------------------------------------------------------

    def lay(self) -> None:
        """Make the networks that are missing.

        :raises LabError: the cloud refused one, or carries smaller packets than the lab's networks.
        """
        for network in self._lab.spec.segments:
            made = self._ensure("network", segment(network.name), network.name, {})
            if made["mtu"] and made["mtu"] < network.mtu:
                raise LabError(
                    f"network {network.name} of {self._lab.name} carries packets of {network.mtu} bytes, those of the "
                    f"cloud {self._cloud.name} {made['mtu']}",
                    f"mtu: {made['mtu']} in the topology",
                )
            for name, cidr in ((network.name, str(network.cidr)), (_bare(network.name), BARE_CIDR)):
                plan = {"network_id": made["id"], "ip_version": 4, "cidr": cidr, "gateway_ip": None}
                self._ensure("subnet", segment(name), name, {**plan, "enable_dhcp": False})

    def way_in(self) -> Outside:
        """The gateway's own network, with a router that leads to the outside."""
        made = self._ensure("network", OUTSIDE, "outside", {})
        network = made["id"]
        plan = {"network_id": network, "ip_version": 4, "cidr": OUTSIDE_CIDR, "gateway_ip": OUTSIDE_ROUTER}
        subnet = self._ensure("subnet", OUTSIDE, "outside", {**plan, "enable_dhcp": False})["id"]
        outside = {"external_gateway_info": {"network_id": external(self._cloud)["id"]}}
        router = self._ensure("router", OUTSIDE, "outside", outside)["id"]
        if not self._cloud.get("network", "/v2.0/ports", {"device_id": router, "network_id": network})["ports"]:
            self._cloud.put("network", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
        return Outside(network, made["mtu"] or 1500)

    # --- ports -----------------------------------------------------------------------------------

    def _network(self, name: str) -> dict[str, Any]:
        mark = marks.of(self._lab, segment(name))
        found = self._cloud.get("network", "/v2.0/networks", {"description": mark})["networks"]
        if not found:
            raise LabError(
                f"network {name} of {self._lab.name} is gone from the cloud {self._cloud.name}",
                f"labctl repair {self._lab.name}",
            )
        return dict(found[0])

    def card(self, node: str, interface: InterfaceSpec, card: CardSpec) -> str:
        """The id of the port of a node's card, with its address and MAC; nothing is filtered."""
        network = self._lab.spec.networks[interface.network].carrier
        body: dict[str, Any] = {"mac_address": card.mac, "fixed_ips": self._bare_address(network)}
        if interface.address is not None:
            body["fixed_ips"] = [{"ip_address": str(interface.address)}]
        return self._open_port(self._network(network), node, f"{node}.{card.name}", body)

    def _bare_address(self, network: str) -> list[dict[str, str]]:
        mark = marks.of(self._lab, segment(_bare(network)))
        found = self._cloud.get("network", "/v2.0/subnets", {"description": mark})["subnets"]
        return [{"subnet_id": each["id"]} for each in found]

    def gateway_card(self, network: str) -> str:
        """The id of the gateway's port in one of the lab's networks, by which the tunnel's frames come and go."""
        body = {"fixed_ips": self._bare_address(network)}
        mac = own_mac(self._lab.spec, network)
        return self._open_port(self._network(network), GATEWAY, f"gateway.{network}", body, mac)

    def _open_port(self, network: dict[str, Any], part: str, name: str, body: dict[str, Any], mac: str = "") -> str:
        whole = f"{self._lab.name}.{name}"
        mark = marks.of(self._lab, part)
        for there in self._cloud.get("network", "/v2.0/ports", {"description": mark, "name": whole})["ports"]:
            return str(there["id"])
        about = {"name": whole, "description": mark, "network_id": network["id"], **body}
        return ports.make(self._cloud, self._lab, about, mac)

    def outside_port(self, network: str) -> str:
        """The id of the gateway's port in its own network: only SSH comes in there."""
        group = self._ensure("security-group", GATEWAY, "gateway", {})["id"]
        rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp", "ethertype": "IPv4"}
        rule |= {"port_range_min": 22, "port_range_max": 22}
        ports.allow(self._cloud, rule)
        body = {
            "network_id": network,
            "fixed_ips": [{"ip_address": OUTSIDE_ADDRESS}],
            "security_groups": [group],
        }
        return str(self._ensure("port", OUTSIDE, "gateway.outside", body)["id"])

    def floating_ip(self, port: str) -> str:
        """The gateway's floating IP."""
        body = {"floating_network_id": external(self._cloud)["id"], "port_id": port}
        mark = marks.of(self._lab, GATEWAY)
        there = self._cloud.get("network", "/v2.0/floatingips", {"description": mark})["floatingips"]
        if not there:
            found = self._cloud.post("network", "/v2.0/floatingips", {"floatingip": {"description": mark, **body}})
        elif there[0]["port_id"] != port:
            change = {"floatingip": {"port_id": port}}
            found = self._cloud.put("network", f"/v2.0/floatingips/{there[0]['id']}", change)
        else:
            found = {"floatingip": there[0]}
        return str(found["floatingip"]["floating_ip_address"])

    def plug(self, node: str, interface: InterfaceSpec, up: bool) -> None:
        """Turn a node's ports in a network on or off, and wait until the cloud's agents have done it.

        :raises DeadlineError: they have not.
        """
        cards = [self.card(node, interface, each) for each in interface.cards]
        for port in cards:
            self._cloud.put("network", f"/v2.0/ports/{port}", {"port": {"admin_state_up": up}})
        deadline, wanted = time.monotonic() + PLUG * self._cloud.patience, "ACTIVE" if up else "DOWN"
        for port in cards:
            while (status := self._status(port)) != wanted:
                if time.monotonic() > deadline:
                    raise DeadlineError(
                        f"the port of {node} in {interface.network} is {status}, not {wanted}, after {PLUG:g} s",
                        self._cloud.command(f"port show {port}"),
                    )
                time.sleep(0.5)

    def _status(self, port: str) -> str:
        return str(self._cloud.get("network", f"/v2.0/ports/{port}")["port"]["status"])
