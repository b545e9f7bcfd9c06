"""The one table of components: what a topology can place on a node, and what that requires of the rest of the lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Component(StrEnum):
    """A group of daemons placed on a node together; the words of ``runs:``."""

    MARIADB = "mariadb"
    RABBITMQ = "rabbitmq"
    MEMCACHED = "memcached"
    ETCD = "etcd"
    KEYSTONE = "keystone"
    GLANCE = "glance"
    PLACEMENT = "placement"
    NOVA_CONTROLLER = "nova-controller"
    NOVA_COMPUTE = "nova-compute"
    NEUTRON_SERVER = "neutron-server"
    NEUTRON_L2 = "neutron-l2"
    NEUTRON_L3 = "neutron-l3"
    NEUTRON_DHCP = "neutron-dhcp"
    NEUTRON_METADATA = "neutron-metadata"
    CINDER_CONTROLLER = "cinder-controller"
    CINDER_VOLUME = "cinder-volume"
    SWIFT_PROXY = "swift-proxy"
    SWIFT_STORAGE = "swift-storage"
    HEAT = "heat"
    HORIZON = "horizon"


C = Component


@dataclass(frozen=True)
class Placing:
    """Placement rules of one component."""

    #: components that must run somewhere in the lab
    needs: tuple[Component, ...] = ()
    #: components that must run on the same node, because they plug the component's ports
    beside: tuple[Component, ...] = ()
    #: at most one node of a lab runs it: none of these is highly available
    once: bool = True
    #: a node may add it to a running lab and remove it again: it appears neither in the catalog, nor in a
    #: database of its own, nor in the configuration of other nodes' services
    joins: bool = False
    #: stores what other nodes write, so its node is shut down last
    holds_data: bool = False
    #: names of the secrets that it brings; ``passwords`` of a topology may set them
    secrets: tuple[str, ...] = ()


_API = (C.KEYSTONE, C.MARIADB)
_RPC = (C.KEYSTONE, C.RABBITMQ, C.MARIADB)

COMPONENTS: Mapping[Component, Placing] = {
    C.MARIADB: Placing(holds_data=True),
    C.RABBITMQ: Placing(holds_data=True, secrets=("RABBIT_PASS",)),
    C.MEMCACHED: Placing(joins=True),
    C.ETCD: Placing(joins=True, holds_data=True),
    C.KEYSTONE: Placing((C.MARIADB, C.MEMCACHED), secrets=("ADMIN_PASS", "DEMO_PASS", "KEYSTONE_DBPASS")),
    C.GLANCE: Placing(_API, secrets=("GLANCE_PASS", "GLANCE_DBPASS")),
    C.PLACEMENT: Placing(_API, secrets=("PLACEMENT_PASS", "PLACEMENT_DBPASS")),
    C.NOVA_CONTROLLER: Placing(
        (C.KEYSTONE, C.GLANCE, C.PLACEMENT, C.RABBITMQ, C.MARIADB, C.NEUTRON_SERVER),
        secrets=("NOVA_PASS", "NOVA_DBPASS", "METADATA_SECRET"),
    ),
    C.NOVA_COMPUTE: Placing((C.NOVA_CONTROLLER,), beside=(C.NEUTRON_L2,), once=False, joins=True),
    C.NEUTRON_SERVER: Placing(_RPC, secrets=("NEUTRON_PASS", "NEUTRON_DBPASS")),
    C.NEUTRON_L2: Placing((C.NEUTRON_SERVER,), once=False, joins=True),
    C.NEUTRON_L3: Placing((C.NEUTRON_SERVER,), beside=(C.NEUTRON_L2,)),
    C.NEUTRON_DHCP: Placing((C.NEUTRON_SERVER,), beside=(C.NEUTRON_L2,)),
    C.NEUTRON_METADATA: Placing((C.NEUTRON_SERVER, C.NOVA_CONTROLLER)),
    C.CINDER_CONTROLLER: Placing((*_RPC, C.GLANCE, C.CINDER_VOLUME), secrets=("CINDER_PASS", "CINDER_DBPASS")),
    C.CINDER_VOLUME: Placing((C.CINDER_CONTROLLER,), once=False, joins=True),
    C.SWIFT_PROXY: Placing(
        (C.KEYSTONE, C.MEMCACHED, C.SWIFT_STORAGE), secrets=("SWIFT_PASS", "SWIFT_HASH_PREFIX", "SWIFT_HASH_SUFFIX")
    ),
    C.SWIFT_STORAGE: Placing((C.SWIFT_PROXY,), once=False),
    C.HEAT: Placing(_RPC, secrets=("HEAT_PASS", "HEAT_DBPASS", "HEAT_DOMAIN_PASS")),
    C.HORIZON: Placing((C.KEYSTONE, C.MEMCACHED)),
}

if missing := set(Component) - set(COMPONENTS):
    raise TypeError(f"COMPONENTS lacks {', '.join(sorted(missing))}")
