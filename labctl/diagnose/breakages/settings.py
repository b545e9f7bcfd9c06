"""Breakages of files: settings, owners, names."""

from __future__ import annotations

from collections.abc import Callable

from labctl.components import Component
from labctl.diagnose.breakages.model import Breakage, mechanism
from labctl.topology.model import Mechanism
from labctl.topology.spec import LabSpec

_C = Component


def _option(
    name: str,
    title: str,
    component: Component,
    path: str,
    section: str,
    pattern: str,
    row: str,
    daemon: str,
    only: Callable[[LabSpec], bool] = bool,
) -> Breakage:
    """A setting of one section, changed by a sed(1) command; its daemon reads it."""
    shell = f"sed -i '/^\\[{section}\\]/,/^\\[/{pattern}' {path}; systemctl --no-block restart unit:{daemon}"
    return Breakage(name, title, component, shell, (row,), only=only)


BREAKAGES = (
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
        "neutron-server",
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
        mechanism(Mechanism.LINUXBRIDGE),
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
        mechanism(Mechanism.LINUXBRIDGE),
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
        "systemctl restart unit:swift-proxy",
        ("B55",),
    ),
    Breakage(
        "conf-owner",
        "glance-api.conf belongs to root alone",
        _C.GLANCE,
        "chown root:root /etc/glance/glance-api.conf; chmod 600 /etc/glance/glance-api.conf; "
        "systemctl restart unit:glance-api || true",
        ("B65",),
    ),
    Breakage(
        "gnocchi-storage",
        "gnocchi cannot write its measures",
        _C.GNOCCHI,
        "chown root: /var/lib/gnocchi; systemctl restart unit:gnocchi-metricd || true",
        ("L4",),
    ),
    Breakage(
        "gnocchi-full",
        "gnocchi's file system is full",
        _C.GNOCCHI,
        "mount -t tmpfs -o size=64k,mode=0750 tmpfs /var/lib/gnocchi; chown gnocchi: /var/lib/gnocchi; "
        "head -c 128k /dev/zero >/var/lib/gnocchi/full 2>/dev/null || true; "
        "systemctl restart unit:gnocchi-metricd || true",
        ("L2",),
        undo="umount -l /var/lib/gnocchi && systemctl restart unit:gnocchi-metricd unit:gnocchi-api",
    ),
    Breakage(
        "hosts",
        "/etc/hosts gives the controller another address",
        _C.NOVA_COMPUTE,
        "sed -i 's/^[0-9.]*\\([ \\t].*controller\\)/192.0.2.9\\1/' /etc/hosts",
        ("B9",),
    ),
    Breakage(
        "compute-renamed",
        "nova-compute has another host name",
        _C.NOVA_COMPUTE,
        "sed -i '/^host = /d; s/^\\[DEFAULT\\]$/&\\nhost = labctl-exercise/' /etc/nova/nova.conf; "
        "systemctl restart unit:nova-compute",
        ("L9",),
    ),
)
