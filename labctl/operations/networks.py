"""Networks that the fixtures create through neutron's API, external ones and a project's own; and bound ports."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.operations.node import quote


@dataclass(frozen=True)
class _Network:
    """A network of one subnet, or of a second one with IPv6 addresses."""

    name: str

    @property
    def ipv6_name(self) -> str:
        """The name of the subnet with its IPv6 addresses."""
        return f"{self.name}-ipv6"


@dataclass(frozen=True)
class ProviderNetwork(_Network):
    """An external network and its subnets, shared by all projects; flat, or a VLAN if it has a tag.

    ``ipv6`` is the prefix of its second subnet, without which it has one.
    """

    physical: str
    cidr: str
    gateway: str
    first: str
    last: str
    dns: str = ""
    vlan: int | None = None
    mtu: int | None = None
    ipv6: str = ""
    ipv6_gateway: str = ""

    @property
    def title(self) -> str:
        return f"network {self.name} ({self.cidr})"

    def guide(self) -> str:
        name = quote(self.name)
        dns = f" --dns-nameserver {self.dns}" if self.dns else ""
        kind = "flat" if self.vlan is None else f"vlan --provider-segment {self.vlan}"
        mtu = f" --mtu {self.mtu}" if self.mtu else ""
        lines = [
            f"openstack network create --share --external --provider-physical-network {self.physical} "
            f"--provider-network-type {kind}{mtu} {name}",
            f"openstack subnet create --network {name} --allocation-pool start={self.first},end={self.last}"
            f"{dns} --gateway {self.gateway} --subnet-range {self.cidr} {name}",
        ]
        if self.ipv6:
            lines.append(
                f"openstack subnet create --network {name} --ip-version 6 --no-dhcp --gateway {self.ipv6_gateway} "
                f"--subnet-range {self.ipv6} {quote(self.ipv6_name)}"
            )
        return "\n".join(lines)

    def early(self) -> str:
        """The commands of early releases' client (facts 9)."""
        name = quote(self.name)
        dns = f" --dns-nameserver {self.dns}" if self.dns else ""
        kind = "flat" if self.vlan is None else f"vlan --provider:segmentation_id {self.vlan}"
        lines = [
            f"neutron net-create --shared --router:external True --provider:physical_network {self.physical} "
            f"--provider:network_type {kind} {name}",
            f"neutron subnet-create --name {name} --allocation-pool start={self.first},end={self.last}"
            f"{dns} --gateway {self.gateway} {name} {self.cidr}",
        ]
        if self.ipv6:
            lines.append(
                f"neutron subnet-create --name {quote(self.ipv6_name)} --ip-version 6 --disable-dhcp "
                f"--gateway {self.ipv6_gateway} {name} {self.ipv6}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class SelfServiceNetwork(_Network):
    """A project's own network, its subnets, and a router to the outside.

    ``ipv6`` is the prefix of its second subnet, without which it has one; ``ipv6_outside`` is the external subnet in
    which the router has the address ``ipv6_router``.
    """

    cidr: str
    project: str
    router: str
    external: str
    mtu: int | None = None
    ipv6: str = ""
    ipv6_mode: str = ""
    ipv6_outside: str = ""
    ipv6_router: str = ""

    @property
    def title(self) -> str:
        return f"network {self.name} ({self.cidr}) behind {self.router}"

    def guide(self) -> str:
        name, project, router = quote(self.name), quote(self.project), quote(self.router)
        mtu = f" --mtu {self.mtu}" if self.mtu else ""
        second = quote(self.ipv6_name)
        fixed = f" --fixed-ip subnet={quote(self.external)}" if self.ipv6_router else ""
        if self.ipv6_router:
            fixed += f" --fixed-ip subnet={quote(self.ipv6_outside)},ip-address={self.ipv6_router}"
        lines = [
            f"openstack network create --project {project}{mtu} {name}",
            f"openstack subnet create --project {project} --network {name} --subnet-range {self.cidr} {name}",
            f"openstack router create --project {project} {router}",
            f"openstack router add subnet {router} {name}",
            f"openstack router set --external-gateway {quote(self.external)}{fixed} {router}",
        ]
        if self.ipv6:
            lines[2:2] = [
                f"openstack subnet create --project {project} --network {name} --ip-version 6 "
                f"--ipv6-ra-mode {self.ipv6_mode} --ipv6-address-mode {self.ipv6_mode} --subnet-range {self.ipv6} "
                f"{second}"
            ]
            lines.insert(5, f"openstack router add subnet {router} {second}")
        return "\n".join(lines)

    def early(self) -> str:
        """The commands of early releases' client (facts 9)."""
        name, router, second = quote(self.name), quote(self.router), quote(self.ipv6_name)
        tenant = f'--tenant-id "$(openstack project show -f value -c id {quote(self.project)})"'
        lines = [
            f"neutron net-create {tenant} {name}",
            f"neutron subnet-create {tenant} --name {name} {name} {self.cidr}",
            f"neutron router-create {tenant} {router}",
            f"neutron router-interface-add {router} {name}",
            f"neutron router-gateway-set {router} {quote(self.external)}",
        ]
        if self.ipv6:
            lines[2:2] = [
                f"neutron subnet-create {tenant} --name {second} --ip-version 6 --ipv6-ra-mode {self.ipv6_mode} "
                f"--ipv6-address-mode {self.ipv6_mode} {name} {self.ipv6}"
            ]
            lines.insert(5, f"neutron router-interface-add {router} {second}")
        return "\n".join(lines)


@dataclass(frozen=True)
class PortsBound:
    """Bind every port that has a host and no binding there, and delete those of owners that are no more.

    :param seconds: deadline for a port.
    """

    gone: tuple[str, ...] = ()
    seconds: int = 120

    @property
    def title(self) -> str:
        return "every port is bound on its host"

    def guide(self) -> str:
        lines = [f"openstack port delete $(openstack port list --device-owner {o} -f value -c ID)" for o in self.gone]
        return "\n".join([*lines, "openstack port set --host HOST PORT  # each that is unbound"])
