"""The frozen model of a topology file, as users write it.

Shapes only: ``load`` adds positions (file:line:column), ``check`` has the rules across fields, ``resolve`` fills
defaults that need a release, base or driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from labctl.components import Component
from labctl.releases import NUMBERS
from labctl.topology.proxy import GIVEN
from labctl.topology.units import parse_disk, parse_memory

#: The archive of CentOS packages since its mirrors closed (facts 2.1).
VAULT = "http://vault.centos.org"
NAME = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"
MAX_HOST_NAME = 30


class Frozen(BaseModel):
    """An immutable model that rejects undeclared fields."""

    # built when first used: whoever opens a record validates none of the models of topology files
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


Name = Annotated[str, Field(pattern=NAME, max_length=40)]
HostName = Annotated[str, Field(pattern=NAME, max_length=MAX_HOST_NAME)]
#: Names in catalogs, commands and configuration files: regions, physical networks, releases.
WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Word = Annotated[str, Field(pattern=WORD, max_length=255)]
Vault = Annotated[str, Field(pattern=r"^https?://[^\s\x00-\x1f\x7f-\x9f'\"&\\#]+$")]


def _parse_title(value: str) -> str:
    odd = next((letter for letter in value if not letter.isprintable()), None)
    if odd is not None:
        raise ValueError(f"a name cannot have the character {odd!r}, which is not printed")
    if not value or value != value.strip():
        raise ValueError("a name must not be empty, and must not begin or end with a blank")
    if value.startswith("-"):
        raise ValueError("a name must not begin with '-': commands would read it as an option")
    if (rare := max(value)) > "\uffff":
        raise ValueError(f"OpenStack's database has no character {rare!r}: it stores up to three bytes for each")
    return value


def _parse_cirros(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){1,3}", value):
        raise ValueError("write a version of CirrOS like 0.5.1")
    return value


#: Names of OpenStack's objects: any text that its database, its commands and files can carry.
Title = Annotated[str, Field(max_length=255), AfterValidator(_parse_title)]
#: Keystone's column for a project's name is shorter.
ProjectTitle = Annotated[str, Field(max_length=64), AfterValidator(_parse_title)]
InterfaceName = Annotated[str, Field(pattern=r"^(eth|bond)[0-9]{1,3}$")]
Mac = Annotated[str, Field(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
#: The number of a layer of a lab.
LAYER = r"^[0-9]{1,9}$"
LayerNumber = Annotated[str, Field(pattern=LAYER)]
#: Bytes; written as ``4 GiB`` or ``512MiB``; a plain number is MiB.
Memory = Annotated[int, BeforeValidator(parse_memory), Field(gt=0, json_schema_extra={"type": ["string", "integer"]})]
#: Bytes; written as ``4 GiB`` or ``512MiB``; a plain number is refused.
DiskSize = Annotated[int, BeforeValidator(parse_disk), Field(gt=0, json_schema_extra={"type": "string"})]


class NetworkRole(StrEnum):
    """What a lab network carries."""

    MANAGEMENT = "management"  # every node has an address; the APIs and (by default) the VXLAN tunnels
    OVERLAY = "overlay"  # tunnels only, where a lab separates them
    PROVIDER = "provider"  # a network outside of the cloud, flat or a VLAN; nodes are attached without an address


class Mechanism(StrEnum):
    """Neutron's ML2 mechanism driver."""

    AUTO = "auto"  # the documented one that release, base, kernel and the placed agents allow
    LINUXBRIDGE = "linuxbridge"
    OPENVSWITCH = "openvswitch"
    OVN = "ovn"


class Ipv6Mode(StrEnum):
    """How guests of a self-service network get their IPv6 addresses: neutron's ``ipv6_address_mode``."""

    SLAAC = "slaac"  # from router advertisements
    STATEFUL = "dhcpv6-stateful"  # from DHCPv6
    STATELESS = "dhcpv6-stateless"  # from router advertisements; name servers from DHCPv6


class VirtType(StrEnum):
    """Nova's ``[libvirt] virt_type`` on the compute nodes."""

    AUTO = "auto"  # kvm where a guest really runs under it, else qemu
    KVM = "kvm"
    QEMU = "qemu"


class VolumeBackend(StrEnum):
    """Where cinder keeps volumes."""

    AUTO = "auto"  # lvm where a node owns its kernel and has device mapper, else nfs
    LVM = "lvm"  # a volume group on the disk named cinder, exported by LIO over iSCSI
    NFS = "nfs"  # files in the lab's shared directory, through cinder's NFS driver


class Join(StrEnum):
    """When a node becomes part of its lab."""

    START = "start"  # `labctl up` creates it
    LATER = "later"  # `labctl node add` adds it to the running lab


class VlanRange(Frozen):
    """An inclusive range of VLAN IDs."""

    first: int = Field(ge=1, le=4094)
    last: int = Field(ge=1, le=4094)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.first != self.last else str(self.first)


class AddressPool(Frozen):
    """An inclusive range of addresses that neutron may hand out."""

    start: IPv4Address
    end: IPv4Address


def _parse_pool(value: Any) -> Any:
    if isinstance(value, str):
        start, separator, end = value.partition("-")
        if not separator:
            raise ValueError("write an address range as FIRST-LAST, like 203.0.113.101-203.0.113.250")
        return {"start": start.strip(), "end": end.strip()}
    return value


def _parse_vlans(value: Any) -> Any:
    """Ranges as ``100-199`` or a list of such; a number is a range of one."""
    return tuple(_vlan_range(each) for each in (value if isinstance(value, list | tuple) else [value]))


def _vlan_range(value: Any) -> Any:
    if isinstance(value, VlanRange | Mapping):  # as lab records hold it
        return value
    match = re.fullmatch(VLANS, str(value))
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= 4094:
        raise ValueError(_VLANS)
    return {"first": first, "last": last}


#: A range of VLAN IDs, as files have it.
VLANS = r"^\s*([0-9]{1,4})\s*(?:-\s*([0-9]{1,4})\s*)?$"
_VLANS = "write VLAN IDs as FIRST-LAST, like 100-199, from 1 to 4094; several ranges as a list"
#: Bytes of the smallest and the largest IP packet that a network may be limited to: IPv6 needs 1280 (RFC 8200, 5).
SMALLEST_MTU, LARGEST_MTU = 1280, 9216
Mtu = Annotated[int, Field(ge=SMALLEST_MTU, le=LARGEST_MTU)]


def _none_word(value: Any) -> Any:
    return None if value == "none" else value


class Network(Frozen):
    """One layer-2 segment of the lab."""

    cidr: IPv4Network
    role: NetworkRole | None = Field(
        None, description="management, overlay or provider; a network named after a role has that role"
    )
    gateway: IPv4Address | None = Field(
        None, description="the lab namespace's address in this network; default: the first host address"
    )
    nat: bool = Field(False, description="let the nodes reach public addresses, through NAT")
    mtu: Mtu | None = Field(
        None, description="bytes of the largest IP packet; default: 1500, or that of the network whose cards it uses"
    )
    physical: str | None = Field(
        None,
        description="provider networks: neutron's name of the physical network, 'provider' by default; networks with "
        "the same name use the same cards, told apart by their VLAN tags",
    )
    vlan: int | None = Field(
        None, ge=1, le=4094, description="provider networks: tag of the frames (VLAN ID); without, they have no tag"
    )
    vlans: Annotated[tuple[VlanRange, ...], BeforeValidator(_parse_vlans)] = Field(
        (), description="provider networks: VLAN IDs that neutron may allocate on these cards, FIRST-LAST or a list"
    )
    pool: Annotated[AddressPool, BeforeValidator(_parse_pool)] | None = Field(
        None, description="provider networks: allocation pool FIRST-LAST for routers and floating IPs"
    )
    dns: IPv4Address | None = Field(None, description="provider networks: DNS server for guests")
    ipv6: IPv6Network | None = Field(None, description="provider networks: IPv6 prefix, like 2001:db8:0:1::/64")
    ipv6_gateway: IPv6Address | None = Field(
        None, description="the lab namespace's IPv6 address in this network; default: the first of the prefix"
    )


class Disk(Frozen):
    """An additional disk of a node."""

    size: DiskSize


def _disk(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"size": value}


Address = Annotated[IPv4Address | None, BeforeValidator(_none_word)]


class Node(Frozen):
    """A machine of the lab."""

    cpus: int = Field(2, ge=1, le=64)
    memory: Memory = Field("2 GiB", validate_default=True, description="with a unit, like 4 GiB; a plain number is MiB")
    disk: DiskSize = Field("10 GiB", validate_default=True, description="size of the system disk, like 20 GiB")
    disks: Mapping[Name, Annotated[Disk, BeforeValidator(_disk)]] = Field(default_factory=dict)
    networks: Mapping[Name, Address] = Field(
        description="network name to address; none attaches the node without an address"
    )
    bonds: tuple[Name, ...] = Field((), description="networks that the node reaches through a bond of two cards")
    runs: tuple[Component, ...]
    join: Join = Field(
        Join.START, description="start: labctl up creates the node; later: labctl node add adds it to the running lab"
    )


class Options(Frozen):
    """Options of the deployment."""

    region: str = "RegionOne"
    workers: int = Field(1, ge=1, le=32, description="worker processes of each API and RPC service")
    threads: int = Field(4, ge=1, le=64, description="threads of each uWSGI API process")
    telemetry_interval: int = Field(
        30, ge=10, le=3600, description="seconds between two measures of telemetry's agents, and of its archive policy"
    )
    mechanism: Mechanism = Mechanism.AUTO
    virt_type: VirtType = VirtType.AUTO
    volume_backend: VolumeBackend = VolumeBackend.AUTO
    anti_affinity: bool = Field(
        False, description="driver openstack: each server on another host of the cloud, or it does not start"
    )
    vault: Vault = Field(VAULT, description="URL of the CentOS packages: the vault or a mirror of it")
    proxy: str | None = Field(
        None,
        description="URL of the HTTP proxy of package downloads, on nodes and for their image; default: $LABCTL_PROXY",
        json_schema_extra={"pattern": GIVEN},
    )


class Flavor(Frozen):
    """A nova flavor created by the fixtures stage."""

    vcpus: int = Field(1, ge=1)
    ram: Memory = Field(description="guest memory, a whole number of MiB; a plain number is MiB")
    disk: int = Field(1, ge=0, description="root disk in GiB")


def _flavors() -> dict[str, Flavor]:
    return {
        "m1.nano": Flavor(ram="128 MiB"),
        "m1.tiny": Flavor(ram="256 MiB"),
        "m1.small": Flavor(ram="512 MiB", disk=2),
    }


class Fixtures(Frozen):
    """Objects in a ready lab: those that the notes create before their first guest."""

    image: Title = Field("cirros", description="name of the guest image in glance")
    cirros: Annotated[str, AfterValidator(_parse_cirros)] = Field(
        "0.5.1", description="CirrOS version, used if its site is reachable"
    )
    external_network: Title = "provider"
    internal_network: Title | None = Field(None, description="a self-service network of the project, behind a router")
    internal_cidr: IPv4Network = IPv4Network("172.16.1.0/24")
    internal_ipv6: IPv6Network | None = Field(
        None, description="IPv6 prefix of the self-service network beside its IPv4 addresses, like 2001:db8:0:a::/64"
    )
    internal_ipv6_mode: Ipv6Mode = Field(Ipv6Mode.SLAAC, description="how its guests get IPv6 addresses")
    internal_mtu: Mtu | None = Field(
        None, description="bytes of its largest IP packet; default: what its tunnels or VLANs carry"
    )
    router: Title = "router"
    project: ProjectTitle = "demo"
    user: Title = "demo"
    flavors: Mapping[Title, Flavor] = Field(default_factory=_flavors)


def _release(value: object) -> object:
    """The name of a release given by its number, which YAML reads as a number."""
    return NUMBERS.get(str(value), value)


class Topology(Frozen):
    """A whole topology file."""

    name: Name
    description: str = ""
    release: Annotated[str, BeforeValidator(_release)] = Field(
        description="the OpenStack release, as listed by labctl releases"
    )
    bases: tuple[str, ...] = Field(min_length=1, description="operating systems, the documented one first")
    drivers: tuple[str, ...] = Field(
        ("nspawn", "libvirt"),
        min_length=1,
        description="how machines can be created, the default first; root in nspawn's containers is root on the host",
    )
    options: Options = Options()
    networks: Mapping[Name, Network] = Field(min_length=1)
    nodes: Mapping[HostName, Node] = Field(min_length=1)
    passwords: Mapping[str, str] = Field(
        default_factory=dict, description="secret name to value; all other secrets are random per lab"
    )
    fixtures: Fixtures = Fixtures()
    sources: Mapping[str, str] = Field(
        default_factory=dict,
        description="project to its own source: a directory, REPOSITORY@REF, an archive; relative to this file",
    )
    snapshots: tuple[str, ...] = Field((), description="stages after which up takes a snapshot named after the stage")
