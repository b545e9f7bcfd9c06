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
    REDIS = "redis"
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
    GNOCCHI = "gnocchi"
    CEILOMETER = "ceilometer"
    CEILOMETER_COMPUTE = "ceilometer-compute"
    AODH = "aodh"


C = Component


@dataclass(frozen=True)
class Placing:
    """Placement rules of one component."""

    #: components that must run somewhere in the lab
    needs: tuple[Component, ...] = ()
    #: components that must run on the same node: they plug its ports, or it measures their guests
    beside: tuple[Component, ...] = ()
    #: at most one node of a lab runs it: none of these is highly available
    once: bool = True
    #: a node may add it to a running lab and remove it again: it appears neither in the catalog, nor in a
    #: database of its own, nor in the configuration of other nodes' services
    joins: bool = False
    #: stores what other nodes write, so its node is shut down last
    holds_data: bool = False
    #: MiB that its daemons hold at the least, with one worker each: those of zed-2node's controller have 4.4 GiB
    #: while tests run (measured), and two thirds of it here
    memory: int = 0
    #: names of the secrets that it brings; ``passwords`` of a topology may set them
    secrets: tuple[str, ...] = ()


_API = (C.KEYSTONE, C.MARIADB)
_RPC = (C.KEYSTONE, C.RABBITMQ, C.MARIADB)

COMPONENTS: Mapping[Component, Placing] = {
    C.MARIADB: Placing(holds_data=True, memory=200),
    C.RABBITMQ: Placing(holds_data=True, memory=150, secrets=("RABBIT_PASS",)),
    C.MEMCACHED: Placing(joins=True, memory=16),
    C.REDIS: Placing(memory=16, secrets=("REDIS_PASS",)),
    C.ETCD: Placing(joins=True, holds_data=True, memory=32),
    C.KEYSTONE: Placing((C.MARIADB, C.MEMCACHED), memory=150, secrets=("ADMIN_PASS", "DEMO_PASS", "KEYSTONE_DBPASS")),
    C.GLANCE: Placing(_API, memory=180, secrets=("GLANCE_PASS", "GLANCE_DBPASS")),
    C.PLACEMENT: Placing(_API, memory=100, secrets=("PLACEMENT_PASS", "PLACEMENT_DBPASS")),
    C.NOVA_CONTROLLER: Placing(
        (C.KEYSTONE, C.GLANCE, C.PLACEMENT, C.RABBITMQ, C.MARIADB, C.NEUTRON_SERVER),
        memory=500,
        secrets=("NOVA_PASS", "NOVA_DBPASS", "METADATA_SECRET"),
    ),
    C.NOVA_COMPUTE: Placing((C.NOVA_CONTROLLER,), beside=(C.NEUTRON_L2,), once=False, joins=True, memory=400),
    C.NEUTRON_SERVER: Placing(_RPC, memory=300, secrets=("NEUTRON_PASS", "NEUTRON_DBPASS")),
    C.NEUTRON_L2: Placing((C.NEUTRON_SERVER,), once=False, joins=True, memory=110),
    C.NEUTRON_L3: Placing((C.NEUTRON_SERVER,), beside=(C.NEUTRON_L2,), memory=120),
    C.NEUTRON_DHCP: Placing((C.NEUTRON_SERVER,), beside=(C.NEUTRON_L2,), memory=110),
    C.NEUTRON_METADATA: Placing((C.NEUTRON_SERVER, C.NOVA_CONTROLLER), memory=90),
    C.CINDER_CONTROLLER: Placing(
        (*_RPC, C.GLANCE, C.CINDER_VOLUME), memory=250, secrets=("CINDER_PASS", "CINDER_DBPASS")
    ),
    C.CINDER_VOLUME: Placing((C.CINDER_CONTROLLER,), once=False, joins=True, memory=150),
    C.SWIFT_PROXY: Placing(
        (C.KEYSTONE, C.MEMCACHED, C.SWIFT_STORAGE),
        memory=80,
        secrets=("SWIFT_PASS", "SWIFT_HASH_PREFIX", "SWIFT_HASH_SUFFIX"),
    ),
    C.SWIFT_STORAGE: Placing((C.SWIFT_PROXY,), once=False, memory=250),
    C.HEAT: Placing(_RPC, memory=300, secrets=("HEAT_PASS", "HEAT_DBPASS", "HEAT_DOMAIN_PASS")),
    C.HORIZON: Placing((C.KEYSTONE, C.MEMCACHED), memory=120),
    C.GNOCCHI: Placing(_API, memory=200, secrets=("GNOCCHI_PASS", "GNOCCHI_DBPASS")),
    C.CEILOMETER: Placing((C.KEYSTONE, C.RABBITMQ, C.GNOCCHI), memory=170, secrets=("CEILOMETER_PASS",)),
    C.CEILOMETER_COMPUTE: Placing((C.CEILOMETER,), beside=(C.NOVA_COMPUTE,), once=False, joins=True, memory=90),
    C.AODH: Placing((*_RPC, C.GNOCCHI), memory=220, secrets=("AODH_PASS", "AODH_DBPASS")),
}

if missing := set(Component) - set(COMPONENTS):
    raise TypeError(f"COMPONENTS lacks {', '.join(sorted(missing))}")
