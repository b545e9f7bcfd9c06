"""Operations on OpenStack's APIs, called from labctl's own process inside the lab's namespace.

They are data, like node operations; ``labctl.engine.cloud`` executes them. Each one knows the equivalent
``openstack`` command of the install guide.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.operations.networks import PortsBound, ProviderNetwork, SelfServiceNetwork
from labctl.operations.node import quote


@dataclass(frozen=True)
class Project:
    """A project in the default domain."""

    name: str
    description: str = ""

    @property
    def title(self) -> str:
        return f"project {self.name}"

    def guide(self) -> str:
        return f'openstack project create --domain default --description "{self.description}" {quote(self.name)}'


@dataclass(frozen=True)
class Domain:
    """An identity domain."""

    name: str
    description: str = ""

    @property
    def title(self) -> str:
        return f"domain {self.name}"

    def guide(self) -> str:
        return f'openstack domain create --description "{self.description}" {quote(self.name)}'


@dataclass(frozen=True)
class Role:
    """A role."""

    name: str

    @property
    def title(self) -> str:
        return f"role {self.name}"

    def guide(self) -> str:
        return f"openstack role create {quote(self.name)}"


@dataclass(frozen=True)
class User:
    """An account; ``password`` is the mark of a secret."""

    name: str
    password: str
    domain: str = "Default"

    @property
    def title(self) -> str:
        return f"user {self.name}"

    def guide(self) -> str:
        return f"openstack user create --domain {self.domain.lower()} --password {self.password} {quote(self.name)}"


@dataclass(frozen=True)
class Grant:
    """A role assigned to a user on a project, or on a domain when ``project`` is empty."""

    role: str
    user: str
    project: str = ""
    domain: str = "Default"

    @property
    def title(self) -> str:
        return f"role {self.role} for {self.user} on {self.project or self.domain}"

    def guide(self) -> str:
        who = f"--user {quote(self.user)} {quote(self.role)}"
        if self.project:
            return f"openstack role add --project {quote(self.project)} {who}"
        return f"openstack role add --domain {self.domain} --user-domain {self.domain} {who}"


@dataclass(frozen=True)
class CatalogEntry:
    """A service and its three endpoints; ``admin_url`` only where it differs."""

    name: str
    type: str
    description: str
    url: str
    region: str
    admin_url: str = ""

    @property
    def title(self) -> str:
        return f"service {self.name} ({self.type}) and its endpoints"

    def url_of(self, interface: str) -> str:
        """The URL of one interface: public, internal or admin."""
        return self.admin_url if interface == "admin" and self.admin_url else self.url

    def guide(self) -> str:
        lines = [f'openstack service create --name {self.name} --description "{self.description}" {self.type}']
        lines += [
            f"openstack endpoint create --region {self.region} {self.type} {i} '{self.url_of(i)}'"
            for i in ("public", "internal", "admin")
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class CatalogGone:
    """No service of this type, nor any endpoint of it."""

    type: str

    @property
    def title(self) -> str:
        return f"no service {self.type}"

    def guide(self) -> str:
        ids = f"openstack service list -f value -c ID -c Type | awk '$2 == \"{self.type}\" {{ print $1 }}'"
        return f"openstack service delete $({ids})"


@dataclass(frozen=True)
class RoleImmutable:
    """A role that nobody deletes or renames by mistake; one that does not exist is left out."""

    name: str

    @property
    def title(self) -> str:
        return f"role {self.name} is immutable"

    def guide(self) -> str:
        return f"openstack role set --immutable {self.name}"


@dataclass(frozen=True)
class FlavorEntry:
    """A nova flavor; ``ram`` in MiB, ``disk`` in GiB."""

    name: str
    vcpus: int
    ram: int
    disk: int

    @property
    def title(self) -> str:
        return f"flavor {self.name}"

    def guide(self) -> str:
        return f"openstack flavor create --vcpus {self.vcpus} --ram {self.ram} --disk {self.disk} {quote(self.name)}"


@dataclass(frozen=True)
class GuestImageUpload:
    """The guest image from the image store, public in glance under this name."""

    name: str

    @property
    def title(self) -> str:
        return f"image {self.name}"

    def guide(self) -> str:
        return (
            f"openstack image create --disk-format qcow2 --container-format bare --public "
            f"--file GUEST_IMAGE {quote(self.name)}"
        )


@dataclass(frozen=True)
class ArchivePolicy:
    """How gnocchi keeps measures: one point for each ``granularity``, for ``kept``, both in seconds."""

    name: str
    methods: tuple[str, ...]
    granularity: int
    kept: int

    @property
    def title(self) -> str:
        return f"archive policy {self.name}"

    def guide(self) -> str:
        methods = " ".join(f"-m {method}" for method in self.methods)
        points = f"granularity:{self.granularity}s,timespan:{self.kept}s"
        return f"openstack metric archive-policy create -d {points} {methods} {quote(self.name)}"


@dataclass(frozen=True)
class MeasuresArrive:
    """Wait until gnocchi has a measure of an image: a sample has come from an agent, over the message bus, to disk.

    :param image: its name.
    :param metric: what is measured of it.
    :param interval: seconds between two measures.
    :param seconds: deadline.
    """

    image: str
    metric: str
    interval: int
    seconds: int = 180

    @property
    def title(self) -> str:
        return f"measures of {self.metric} arrive"

    def guide(self) -> str:
        image = f"$(openstack image show -f value -c id {quote(self.image)})"
        return f"openstack metric measures show --resource-id {image} {self.metric}"


@dataclass(frozen=True)
class ComputeHosts:
    """Wait until these hosts have registered their hypervisors, up and enabled.

    :param seconds: deadline.
    """

    hosts: tuple[str, ...]
    seconds: int = 120

    @property
    def title(self) -> str:
        return f"hypervisors up: {', '.join(self.hosts)}"

    def guide(self) -> str:
        return "openstack compute service list --service nova-compute"


@dataclass(frozen=True)
class ComputeServiceGone:
    """Delete the compute service of a host whose daemon has stopped, with its mapping and resource provider.

    A running one would register again; nova refuses (409) while the host has servers.
    """

    host: str

    @property
    def title(self) -> str:
        return f"no compute service on {self.host}"

    def guide(self) -> str:
        listed = f"openstack compute service list --service nova-compute --host {quote(self.host)} -f value -c ID"
        return f"openstack compute service delete $({listed})"


@dataclass(frozen=True)
class HypervisorsMapped:
    """Wait until the API lists these hypervisors, which it does once they are mapped into a cell.

    :param seconds: deadline.
    """

    hosts: tuple[str, ...]
    seconds: int = 30

    @property
    def title(self) -> str:
        return f"hypervisors listed: {', '.join(self.hosts)}"

    def guide(self) -> str:
        return "openstack hypervisor list"


@dataclass(frozen=True)
class AgentsAlive:
    """Wait until neutron reports each (binary, host) alive.

    :param seconds: deadline.
    """

    agents: tuple[tuple[str, str], ...]
    seconds: int = 120

    @property
    def title(self) -> str:
        return f"{len(self.agents)} network agents alive"

    def guide(self) -> str:
        return "openstack network agent list"


@dataclass(frozen=True)
class DhcpPlugged:
    """Wait until the DHCP server's port in each network that `up` created is ACTIVE.

    For its first network an agent starts its privileged helpers and namespaces. On an emulated node that takes
    minutes, and neutron permanently gives up on a DHCP server that takes longer than five (``Dnsmasq.enable`` in
    neutron/agent/linux/dhcp.py), so no more networks may be requested before.

    :param seconds: deadline.
    """

    networks: tuple[str, ...]
    seconds: int = 120

    @property
    def title(self) -> str:
        return f"DHCP in {', '.join(self.networks)}"

    def guide(self) -> str:
        return "\n".join(f"openstack port list --network {quote(n)} --device-owner network:dhcp" for n in self.networks)


@dataclass(frozen=True)
class ServicesUp:
    """Wait until a service's own list (nova, cinder, heat) shows each (binary, host) up.

    :param seconds: deadline.
    """

    type: str
    services: tuple[tuple[str, str], ...]
    seconds: int = 90

    @property
    def title(self) -> str:
        return f"{self.type}: {', '.join(f'{b}@{h}' for b, h in self.services)} up"

    def guide(self) -> str:
        return {
            "compute": "openstack compute service list",
            "volumev2": "openstack volume service list",
            "volumev3": "openstack volume service list",
            "orchestration": "openstack orchestration service list",
        }[self.type]


@dataclass(frozen=True)
class CatalogAnswers:
    """Every endpoint of the catalog exists once per interface, in one region, and answers.

    :param seconds: deadline.
    """

    region: str
    types: tuple[str, ...]
    seconds: int = 60

    @property
    def title(self) -> str:
        return f"catalog answers: {', '.join(self.types)}"

    def guide(self) -> str:
        return "openstack catalog list"


ApiOperation = (
    Project
    | Domain
    | Role
    | User
    | Grant
    | CatalogEntry
    | CatalogGone
    | RoleImmutable
    | FlavorEntry
    | GuestImageUpload
    | ArchivePolicy
    | MeasuresArrive
    | ProviderNetwork
    | SelfServiceNetwork
    | ComputeHosts
    | ComputeServiceGone
    | HypervisorsMapped
    | AgentsAlive
    | PortsBound
    | DhcpPlugged
    | ServicesUp
    | CatalogAnswers
)
