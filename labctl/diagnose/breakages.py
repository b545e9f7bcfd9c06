"""Ways in which such labs break, as exercises and as the proof of the diagnosis.

Each is a shell command on one node, and the row of the troubleshooting tables that explains it. None of them loses
data; a restored snapshot, or the fix that the diagnosis names, ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl.components import Component
from labctl.errors import LabError
from labctl.operations.node import quote
from labctl.topology.model import NetworkRole
from labctl.topology.spec import LabSpec, NodeSpec


@dataclass(frozen=True)
class Breakage:
    """One exercise: ``shell`` runs on the node of a component; with ``admin`` after loading admin-openrc."""

    name: str
    title: str
    component: Component
    shell: str
    rows: tuple[str, ...]
    admin: bool = False
    #: what undoes it where the fixes of a diagnosis do not
    undo: str = ""
    #: a component whose node is not the one to break
    apart: Component | None = None

    def nodes(self, spec: LabSpec) -> tuple[NodeSpec, ...]:
        """The nodes that it can break."""
        here = spec.running(self.component)
        return here if self.apart is None else tuple(node for node in here if not node.has(self.apart))

    def node(self, spec: LabSpec) -> str:
        """The node it breaks.

        :raises LabError: the lab has none.
        """
        if not (nodes := self.nodes(spec)):
            apart = f" on a node without {self.apart.value}" if self.apart else ""
            raise LabError(f"{spec.name} runs no {self.component.value}{apart}, so '{self.name}' cannot break it")
        return nodes[0].name

    def program(self, spec: LabSpec, shell: str = "") -> str:
        """The whole shell text, with the lab's own names in variables.

        :param shell: by default what breaks the node.
        """
        provider = spec.interface(spec.nodes[self.node(spec)], NetworkRole.PROVIDER)
        names = {
            "region": spec.region,
            "router": spec.fixtures.router,
            "external": spec.fixtures.external_network,
            "provider": provider.name if provider else "",
        }
        words = " ".join(f"{name}={quote(value)}" for name, value in names.items())
        login = ". /root/admin-openrc; " if self.admin else ""
        return f"{words}; {login}{shell or self.shell}"


def _option(
    name: str, title: str, component: Component, path: str, section: str, pattern: str, row: str, unit: str
) -> Breakage:
    """A setting of one section, changed by a sed(1) command; its daemon reads it."""
    shell = f"sed -i '/^\\[{section}\\]/,/^\\[/{pattern}' {path}; systemctl --no-block restart {unit}"
    return Breakage(name, title, component, shell, (row,))


_C = Component
BREAKAGES = (
    # --- settings
    _option(
        "glance-database",
        "wrong password in glance's [database]",
        _C.GLANCE,
        "/etc/glance/glance-api.conf",
        "database",
        "s/glance:[^@]*@/glance:wrong@/",
        "A1",
        "glance-api",
    ),
    _option(
        "nova-authtoken",
        "wrong password in nova's [keystone_authtoken]",
        _C.NOVA_CONTROLLER,
        "/etc/nova/nova.conf",
        "keystone_authtoken",
        "s/^password = .*/password = wrong/",
        "A11",
        "nova-api",
    ),
    _option(
        "neutron-authtoken-section",
        "misspelt section [keystone_authtokens]",
        _C.NEUTRON_SERVER,
        "/etc/neutron/neutron.conf",
        "keystone_authtoken",
        "s/^\\[keystone_authtoken\\]/[keystone_authtokens]/",
        "A11",
        "neutron-api",
    ),
    _option(
        "nova-transport",
        "wrong password in nova's transport_url",
        _C.NOVA_COMPUTE,
        "/etc/nova/nova.conf",
        "DEFAULT",
        "s#openstack:[^@]*@#openstack:wrong@#",
        "B11",
        "nova-compute",
    ),
    _option(
        "placement-password",
        "wrong password in [placement] of the compute node",
        _C.NOVA_COMPUTE,
        "/etc/nova/nova.conf",
        "placement",
        "s/^password = .*/password = wrong/",
        "B19",
        "nova-compute",
    ),
    _option(
        "metadata-secret",
        "another metadata secret",
        _C.NEUTRON_METADATA,
        "/etc/neutron/metadata_agent.ini",
        "DEFAULT",
        "s/^metadata_proxy_shared_secret = .*/metadata_proxy_shared_secret = other/",
        "B31",
        "neutron-metadata-agent",
    ),
    _option(
        "physical-network",
        "the physical network has another name",
        _C.NEUTRON_L2,
        "/etc/neutron/plugins/ml2/linuxbridge_agent.ini",
        "linux_bridge",
        "s/^physical_interface_mappings = [^:]*:/physical_interface_mappings = external:/",
        "A26",
        "neutron-linuxbridge-agent",
    ),
    _option(
        "tunnel-address",
        "local_ip of another machine",
        _C.NEUTRON_L2,
        "/etc/neutron/plugins/ml2/linuxbridge_agent.ini",
        "vxlan",
        "s/^local_ip = .*/local_ip = 192.0.2.9/",
        "B33",
        "neutron-linuxbridge-agent",
    ),
    _option(
        "my-ip",
        "my_ip of the controller on the compute node",
        _C.NOVA_COMPUTE,
        "/etc/nova/nova.conf",
        "DEFAULT",
        "s/^my_ip = .*/my_ip = 192.0.2.9/",
        "B30",
        "nova-compute",
    ),
    _option(
        "cinder-backend",
        "enabled_backends names a section that is not there",
        _C.CINDER_VOLUME,
        "/etc/cinder/cinder.conf",
        "DEFAULT",
        "s/^enabled_backends = .*/enabled_backends = lvmm/",
        "A29",
        "cinder-volume",
    ),
    _option(
        "vnc-listen",
        "VNC listens on an address set by hand",
        _C.NOVA_COMPUTE,
        "/etc/nova/nova.conf",
        "vnc",
        "s/^server_listen = .*/server_listen = 192.0.2.9/",
        "B13",
        "nova-compute",
    ),
    _option(
        "bad-option",
        "a value that a daemon refuses",
        _C.HEAT,
        "/etc/heat/heat.conf",
        "DEFAULT",
        "s/^num_engine_workers = .*/num_engine_workers = many/",
        "B13",
        "heat-engine",
    ),
    Breakage(
        "swift-hash",
        "another hash suffix",
        _C.SWIFT_PROXY,
        "sed -i 's/^swift_hash_path_suffix = .*/swift_hash_path_suffix = other/' /etc/swift/swift.conf; "
        "systemctl restart swift-proxy",
        ("B55",),
    ),
    Breakage(
        "conf-owner",
        "glance-api.conf belongs to root alone",
        _C.GLANCE,
        "chown root:root /etc/glance/glance-api.conf; chmod 600 /etc/glance/glance-api.conf; "
        "systemctl restart glance-api || true",
        ("B65",),
    ),
    Breakage(
        "hosts",
        "/etc/hosts gives the controller another address",
        _C.NOVA_COMPUTE,
        "sed -i 's/^[0-9.]*\\([ \\t].*controller\\)/192.0.2.9\\1/' /etc/hosts",
        ("B9",),
    ),
    # --- database, messages, cache
    Breakage(
        "grant",
        "nova's grants are revoked",
        _C.MARIADB,
        "mysql -e \"REVOKE ALL ON nova.* FROM 'nova'@'%'; REVOKE ALL ON nova.* FROM 'nova'@'localhost'\"; "
        "systemctl restart nova-conductor || true",
        ("A1", "A2"),
    ),
    Breakage("database-down", "MariaDB is stopped", _C.MARIADB, "systemctl stop mariadb", ("A4",)),
    Breakage("rabbit-down", "RabbitMQ is stopped", _C.RABBITMQ, "systemctl stop rabbitmq-server", ("A10",)),
    Breakage(
        "rabbit-permissions",
        "the user openstack may nothing",
        _C.RABBITMQ,
        "rabbitmqctl -q clear_permissions openstack",
        ("A10",),
    ),
    Breakage(
        "rabbit-password",
        "RabbitMQ's user has another password",
        _C.RABBITMQ,
        "rabbitmqctl -q change_password openstack other",
        ("A10", "B11"),
    ),
    Breakage(
        "rabbit-alarm",
        "RabbitMQ's disk limit blocks all publishers",
        _C.RABBITMQ,
        "rabbitmqctl -q set_disk_free_limit 100000GB && sleep 12",
        ("A10",),
    ),
    Breakage("memcached-down", "memcached is stopped", _C.MEMCACHED, "systemctl stop memcached", ("B8",)),
    # --- units
    Breakage("glance-stopped", "glance is stopped", _C.GLANCE, "systemctl stop glance-api", ("B63",)),
    Breakage(
        "scheduler-masked",
        "nova-scheduler is stopped and masked",
        _C.NOVA_CONTROLLER,
        "systemctl disable -q --now nova-scheduler; systemctl mask -q nova-scheduler",
        ("B63",),
    ),
    Breakage(
        "conductor-disabled",
        "nova-conductor runs but will not after a reboot",
        _C.NOVA_CONTROLLER,
        "systemctl disable -q nova-conductor",
        ("B63",),
    ),
    Breakage("keys-owner", "keystone cannot read its keys", _C.KEYSTONE, "chown root: /etc/keystone/*-keys/*", ("L7",)),
    Breakage("keystone-stopped", "keystone is stopped", _C.KEYSTONE, "systemctl stop keystone", ("A8",)),
    Breakage("compute-stopped", "nova-compute is stopped", _C.NOVA_COMPUTE, "systemctl stop nova-compute", ("B63",)),
    Breakage(
        "l3-agent-stopped", "the layer-3 agent is stopped", _C.NEUTRON_L3, "systemctl stop neutron-l3-agent", ("B63",)
    ),
    Breakage(
        "dhcp-agent-killed",
        "the DHCP agent is killed and cannot start",
        _C.NEUTRON_DHCP,
        "systemctl kill -s KILL neutron-dhcp-agent; systemctl stop neutron-dhcp-agent",
        ("B63",),
    ),
    Breakage("volume-stopped", "cinder-volume is stopped", _C.CINDER_VOLUME, "systemctl stop cinder-volume", ("B63",)),
    Breakage("heat-stopped", "heat-engine is stopped", _C.HEAT, "systemctl stop heat-engine", ("B63",)),
    Breakage("proxy-stopped", "swift-proxy is stopped", _C.SWIFT_PROXY, "systemctl stop swift-proxy", ("B63",)),
    Breakage("chrony-stopped", "the clock follows nobody", _C.NOVA_COMPUTE, "systemctl stop chrony", ("B1",)),
    # --- catalog and accounts
    Breakage(
        "endpoint-port",
        "a public endpoint with a wrong port",
        _C.KEYSTONE,
        "id=$(openstack endpoint list --service image --interface public -f value -c ID); "
        "openstack endpoint set --url http://controller:9299 $id",
        ("A12",),
        True,
    ),
    Breakage(
        "endpoint-twice",
        "two public endpoints of one service",
        _C.KEYSTONE,
        'openstack endpoint create --region "$region" image public http://controller:9299',
        ("A12",),
        True,
        "openstack endpoint delete $(openstack endpoint list --service image --interface public -f value "
        "-c ID -c URL | awk '/:9299/ { print $1 }')",
    ),
    Breakage(
        "endpoint-missing",
        "no internal endpoint of neutron",
        _C.KEYSTONE,
        "openstack endpoint delete $(openstack endpoint list --service network --interface internal -f value -c ID)",
        ("A12",),
        True,
    ),
    Breakage(
        "endpoint-template",
        "a template with $(tenant_id)s",
        _C.KEYSTONE,
        "id=$(openstack endpoint list --service orchestration --interface public -f value -c ID); "
        "openstack endpoint set --url 'http://controller:8004/v1/$(tenant_id)s' $id",
        ("A12",),
        True,
    ),
    Breakage(
        "role-missing",
        "glance's role on the project service is gone",
        _C.KEYSTONE,
        "openstack role remove --user glance --project service admin",
        ("A13",),
        True,
    ),
    Breakage(
        "account-password",
        "cinder's account has another password",
        _C.KEYSTONE,
        "openstack user set --password other cinder",
        ("A11",),
        True,
    ),
    Breakage(
        "account-disabled",
        "neutron's account is disabled",
        _C.KEYSTONE,
        "openstack user set --disable neutron",
        ("A11",),
        True,
        "openstack user set --enable neutron",
    ),
    # --- nova, neutron, storage
    Breakage(
        "unmapped",
        "the compute host is mapped to no cell",
        _C.MARIADB,
        "mysql -e 'DELETE FROM nova_api.host_mappings'",
        ("A18",),
    ),
    Breakage(
        "compute-disabled",
        "nova-compute is disabled",
        _C.KEYSTONE,
        "for h in $(openstack compute service list --service nova-compute -f value -c Host); do "
        "openstack compute service set --disable $h nova-compute; done",
        ("B21",),
        True,
        "for h in $(openstack compute service list --service nova-compute -f value -c Host); do "
        "openstack compute service set --enable $h nova-compute; done",
    ),
    Breakage("mtu", "a card's MTU is too small for VXLAN", _C.NOVA_COMPUTE, "ip link set eth0 mtu 1400", ("B40",)),
    Breakage(
        "card-down", "the provider network's card is down", _C.NEUTRON_L3, 'ip link set dev "$provider" down', ("M3",)
    ),
    Breakage(
        "no-gateway",
        "the router has no gateway",
        _C.KEYSTONE,
        'openstack router unset --external-gateway "$router"',
        ("B43",),
        True,
        'openstack router set --external-gateway "$external" "$router"',
    ),
    Breakage(
        "image-store",
        "glance cannot write its store",
        _C.GLANCE,
        "chown root:root /var/lib/glance/images; chmod 700 /var/lib/glance/images",
        ("A15",),
    ),
    Breakage("swift-disk", "an object disk is not mounted", _C.SWIFT_STORAGE, "umount -l /srv/node/*", ("A37",)),
    Breakage(
        "ring-stale",
        "a ring is older than the proxy's",
        _C.SWIFT_STORAGE,
        "gunzip -c /etc/swift/object.ring.gz | gzip -1 >/etc/swift/object.ring.gz.new; "
        "mv /etc/swift/object.ring.gz.new /etc/swift/object.ring.gz",
        ("A35",),
        apart=_C.SWIFT_PROXY,
    ),
    Breakage("ring-missing", "a ring is missing", _C.SWIFT_STORAGE, "rm /etc/swift/object.ring.gz", ("B54",)),
)
BY_NAME = {breakage.name: breakage for breakage in BREAKAGES}
