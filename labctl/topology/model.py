"""What a user writes: the frozen model of a topology file.

Only shapes live here. Positions (file:line:column) are added by ``load``, rules that look at more than
one field are in ``check``, defaults that need a release, base or driver are filled by ``resolve``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from labctl.components import Component
from labctl.topology.units import parse_size

#: Where the packages of CentOS went when its mirrors were closed (facts 2.1).
VAULT = "http://vault.centos.org"
NAME = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"
MAX_HOST_NAME = 30


class Frozen(BaseModel):
    """A value that never changes once made and knows no field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, Field(pattern=NAME, max_length=40)]
HostName = Annotated[str, Field(pattern=NAME, max_length=MAX_HOST_NAME)]
#: Bytes; written as ``4 GiB``, ``512MiB`` or a plain number of bytes.
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, json_schema_extra={"type": ["string", "integer"]})]


class NetworkRole(StrEnum):
    """What a lab network carries."""

    MANAGEMENT = "management"  # every node has an address; the APIs and (by default) the VXLAN tunnels
    OVERLAY = "overlay"  # tunnels only, where a lab separates them
    PROVIDER = "provider"  # neutron's flat provider network; nodes are attached without an address


class Mechanism(StrEnum):
    """Neutron's ML2 mechanism driver."""

    AUTO = "auto"  # openvswitch where every node's kernel has it and the release prefers it
    LINUXBRIDGE = "linuxbridge"
    OPENVSWITCH = "openvswitch"


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

    START = "start"  # `labctl up` makes it
    LATER = "later"  # `labctl node add` brings it into the running lab


class AddressPool(Frozen):
    """An inclusive range of addresses that neutron may hand out."""

    start: IPv4Address
    end: IPv4Address


def _parse_pool(value: Any) -> Any:
    if isinstance(value, str):
        start, separator, end = value.partition("-")
        if not separator:
            raise ValueError("an address range is written FIRST-LAST, like 203.0.113.101-203.0.113.250")
        return {"start": start.strip(), "end": end.strip()}
    return value


def _none_word(value: Any) -> Any:
    return None if value == "none" else value


class Network(Frozen):
    """One layer-2 segment of the lab."""

    cidr: IPv4Network
    role: NetworkRole | None = Field(
        None, description="management, overlay or provider; a network named after a role has that role"
    )
    gateway: IPv4Address | None = Field(
        None, description="the lab namespace's address in this network; the first one when not given"
    )
    nat: bool = Field(False, description="let the nodes reach what the host reaches, by address translation")
    physical: str = Field("provider", description="neutron's name for the provider's physical network")
    pool: Annotated[AddressPool, BeforeValidator(_parse_pool)] | None = Field(
        None, description="provider networks: FIRST-LAST, what neutron may use for routers and floating IPs"
    )
    dns: IPv4Address | None = Field(None, description="provider networks: name server given to guests")


class Disk(Frozen):
    """An additional disk of a node."""

    size: Size


def _disk(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"size": value}


Address = Annotated[IPv4Address | None, BeforeValidator(_none_word)]


class Node(Frozen):
    """A machine of the lab."""

    cpus: int = Field(2, ge=1, le=64)
    memory: Size = Field(2 * 1024**3, validate_default=True)
    disk: Size = Field(10 * 1024**3, validate_default=True, description="size of the system disk")
    disks: Mapping[Name, Annotated[Disk, BeforeValidator(_disk)]] = Field(default_factory=dict)
    networks: Mapping[Name, Address] = Field(
        description="network name to address; none attaches the node without an address"
    )
    runs: tuple[Component, ...]
    join: Join = Field(
        Join.START, description="start: up makes the node; later: labctl node add brings it into the running lab"
    )


class Options(Frozen):
    """Choices that shape the recipe."""

    region: str = "RegionOne"
    workers: int = Field(1, ge=1, le=32, description="worker processes of each API and RPC service")
    threads: int = Field(4, ge=1, le=64, description="threads of each uWSGI API process")
    mechanism: Mechanism = Mechanism.AUTO
    virt_type: VirtType = VirtType.AUTO
    volume_backend: VolumeBackend = VolumeBackend.AUTO
    vault: str = Field(
        VAULT, pattern=r"^https?://[^\s'\"&\\]+$", description="where CentOS's packages are: the vault, or a copy of it"
    )


class Flavor(Frozen):
    """A nova flavor made by the fixtures stage."""

    vcpus: int = Field(1, ge=1)
    ram: Size = Field(description="memory of the guest, a whole number of MiB")
    disk: int = Field(1, ge=0, description="root disk in GiB")


def _flavors() -> dict[str, Flavor]:
    return {
        "m1.nano": Flavor(ram="128 MiB"),
        "m1.tiny": Flavor(ram="256 MiB"),
        "m1.small": Flavor(ram="512 MiB", disk=2),
    }


class Fixtures(Frozen):
    """What the lab holds when it is ready: the objects the notes create before their first guest."""

    image: str = Field("cirros", description="name of the guest image in glance")
    cirros: str = Field("0.5.1", description="version of CirrOS, used where its site can be reached")
    external_network: str = "provider"
    internal_network: str | None = Field(None, description="a self-service network of the project, behind a router")
    internal_cidr: IPv4Network = IPv4Network("172.16.1.0/24")
    router: str = "router"
    project: str = "demo"
    user: str = "demo"
    flavors: Mapping[str, Flavor] = Field(default_factory=_flavors)


class Topology(Frozen):
    """A whole topology file."""

    name: Name
    description: str = ""
    release: str = Field(description="the OpenStack release, as labctl releases names them")
    bases: tuple[str, ...] = Field(min_length=1, description="operating systems, the documented one first")
    drivers: tuple[str, ...] = Field(("nspawn", "libvirt"), min_length=1)
    options: Options = Options()
    networks: Mapping[Name, Network] = Field(min_length=1)
    nodes: Mapping[HostName, Node] = Field(min_length=1)
    passwords: Mapping[str, str] = Field(
        default_factory=dict, description="secret name to value; every other secret is random per lab"
    )
    fixtures: Fixtures = Fixtures()
    snapshots: tuple[str, ...] = Field((), description="stages after which up takes a snapshot of their name")
