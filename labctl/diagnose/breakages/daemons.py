"""Breakages of the infrastructure and of units."""

from __future__ import annotations

from labctl.components import Component
from labctl.diagnose.breakages.model import Breakage, mechanism
from labctl.topology.model import Mechanism
from labctl.topology.spec import LabSpec

_C = Component
_DUMP = "/root/labctl-exercise-glance.sql"


def _zed(spec: LabSpec) -> bool:
    return spec.release == "zed"


BREAKAGES = (
    Breakage(
        "grant",
        "nova's grants are revoked",
        _C.MARIADB,
        "mysql -e \"REVOKE ALL ON nova.* FROM 'nova'@'%'; REVOKE ALL ON nova.* FROM 'nova'@'localhost'\"; "
        "systemctl restart unit:nova-conductor || true",
        ("A1", "A2"),
    ),
    Breakage("database-down", "MariaDB is stopped", _C.MARIADB, "systemctl stop unit:mariadb", ("A4",)),
    Breakage("rabbit-down", "RabbitMQ is stopped", _C.RABBITMQ, "systemctl stop unit:rabbitmq", ("A10",)),
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
    Breakage("memcached-down", "memcached is stopped", _C.MEMCACHED, "systemctl stop unit:memcached", ("B8",)),
    Breakage("glance-stopped", "glance is stopped", _C.GLANCE, "systemctl stop unit:glance-api", ("B63",)),
    Breakage(
        "scheduler-masked",
        "nova-scheduler is stopped and masked",
        _C.NOVA_CONTROLLER,
        "systemctl disable -q --now unit:nova-scheduler; systemctl mask -q unit:nova-scheduler",
        ("B63",),
    ),
    Breakage(
        "conductor-disabled",
        "nova-conductor runs but will not after a reboot",
        _C.NOVA_CONTROLLER,
        "systemctl disable -q unit:nova-conductor",
        ("B63",),
    ),
    Breakage("keys-owner", "keystone cannot read its keys", _C.KEYSTONE, "chown root: /etc/keystone/*-keys/*", ("L7",)),
    Breakage("keystone-stopped", "keystone is stopped", _C.KEYSTONE, "systemctl stop unit:keystone", ("A8",)),
    Breakage(
        "compute-stopped", "nova-compute is stopped", _C.NOVA_COMPUTE, "systemctl stop unit:nova-compute", ("B63",)
    ),
    Breakage(
        "l3-agent-stopped",
        "the layer-3 agent is stopped",
        _C.NEUTRON_L3,
        "systemctl stop unit:neutron-l3-agent",
        ("B63",),
        only=mechanism(Mechanism.LINUXBRIDGE, Mechanism.OPENVSWITCH),
    ),
    Breakage(
        "dhcp-agent-killed",
        "the DHCP agent is killed and cannot start",
        _C.NEUTRON_DHCP,
        "systemctl kill -s KILL unit:neutron-dhcp-agent; systemctl stop unit:neutron-dhcp-agent",
        ("B63",),
    ),
    Breakage(
        "ovn-controller-stopped",
        "ovn-controller is stopped",
        _C.NEUTRON_L2,
        "systemctl stop unit:ovn-controller",
        ("B63",),
        only=mechanism(Mechanism.OVN),
    ),
    Breakage(
        "northd-stopped",
        "OVN's northd is stopped",
        _C.NEUTRON_SERVER,
        "systemctl stop unit:ovn-northd",
        ("B63",),
        only=mechanism(Mechanism.OVN),
    ),
    Breakage(
        "ovn-metadata-stopped",
        "OVN's metadata agent is stopped",
        _C.NOVA_COMPUTE,
        "systemctl stop unit:neutron-ovn-metadata-agent",
        ("B63",),
        only=mechanism(Mechanism.OVN),
    ),
    Breakage(
        "volume-stopped", "cinder-volume is stopped", _C.CINDER_VOLUME, "systemctl stop unit:cinder-volume", ("B63",)
    ),
    Breakage("heat-stopped", "heat-engine is stopped", _C.HEAT, "systemctl stop unit:heat-engine", ("B63",)),
    Breakage("proxy-stopped", "swift-proxy is stopped", _C.SWIFT_PROXY, "systemctl stop unit:swift-proxy", ("B63",)),
    *(
        Breakage(f"{name}-stopped", f"{words} is stopped", component, f"systemctl stop unit:{name}", ("B63",))
        for name, words, component in (
            ("gnocchi-metricd", "gnocchi-metricd", _C.GNOCCHI),
            ("ceilometer-notification", "ceilometer's notification agent", _C.CEILOMETER),
            ("ceilometer-compute", "ceilometer's compute agent", _C.CEILOMETER_COMPUTE),
            ("aodh-evaluator", "aodh's evaluator", _C.AODH),
        )
    ),
    Breakage("chrony-stopped", "the clock follows nobody", _C.NOVA_COMPUTE, "systemctl stop unit:chrony", ("B1",)),
    Breakage(
        "restart-loop",
        "nova-scheduler ends again and again",
        _C.NOVA_CONTROLLER,
        "mkdir -p /etc/systemd/system/unit:nova-scheduler.service.d; "
        "printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=\nExecStart=/bin/false\n"
        "Restart=always\nRestartSec=1\n' >/etc/systemd/system/unit:nova-scheduler.service.d/exercise.conf; "
        "systemctl daemon-reload; systemctl --no-block restart unit:nova-scheduler; sleep 3",
        ("B63",),
        undo="rm -f /etc/systemd/system/unit:nova-scheduler.service.d/exercise.conf; systemctl daemon-reload",
    ),
    Breakage(
        "descriptors",
        "memcached may open hardly any more files",
        _C.MEMCACHED,
        "p=$(systemctl show -p MainPID --value unit:memcached); used=$(find /proc/$p/fd | wc -l); "
        'runuser -u "$(stat -c %U /proc/$p)" -- prlimit --pid "$p" --nofile="$((used + used / 10))"',
        ("L3",),
        undo="systemctl restart unit:memcached",
    ),
    Breakage(
        "database-dropped",
        "glance's database is gone",
        _C.MARIADB,
        f"mysqldump --single-transaction glance >{_DUMP} && mysql -e 'DROP DATABASE glance'",
        ("A2",),
        undo=f"mysql -e 'CREATE DATABASE IF NOT EXISTS glance' && mysql glance <{_DUMP} && rm {_DUMP} && "
        "systemctl restart unit:glance-api",
    ),
    Breakage(
        "schema-behind",
        "the tables of placement are one revision back",
        _C.MARIADB,
        'mysql placement -e "ALTER TABLE consumers DROP FOREIGN KEY consumers_consumer_type_id_fkey; '
        "ALTER TABLE consumers DROP INDEX consumers_consumer_type_id_idx; "
        "ALTER TABLE consumers DROP COLUMN consumer_type_id; DROP TABLE consumer_types; "
        "UPDATE alembic_version SET version_num = 'b5c396305c25'\"",
        ("A3",),
        only=_zed,
    ),
)
