"""Breakages of disks, cards and stores."""

from __future__ import annotations

from labctl.components import Component
from labctl.diagnose.breakages.model import Breakage, mechanism
from labctl.topology.model import Mechanism, VolumeBackend
from labctl.topology.spec import LabSpec

_C = Component

#: A disk of one megabyte over a directory, full; what was there is hidden, not lost.
_FULL = (
    "mount -t tmpfs -o size=1m,mode=755 labctl-exercise {0} && {{ head -c 2M /dev/zero >{0}/labctl-exercise || true; }}"
)
_EMPTY = "umount -l {0}"
#: Questions that a firewall drops; a lab without a way out refuses those to an address outside at once.
_DROPPED = "INPUT -d 127.0.0.9 -p udp --dport 53 -j DROP"
_NO_NAMES = (
    "cp /etc/resolv.conf /etc/resolv.conf.exercise; printf 'nameserver 127.0.0.9\n' >/etc/resolv.conf; "
    f"iptables -w -I {_DROPPED}"
)


def _lvm(spec: LabSpec) -> bool:
    return spec.volume_backend is VolumeBackend.LVM


def _routed(spec: LabSpec) -> bool:
    return spec.fixtures.internal_network is not None


def _own_clock(spec: LabSpec) -> bool:
    return spec.own_kernel


BREAKAGES = (
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
        only=_routed,
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
    Breakage(
        "image-store-full",
        "glance's store is full",
        _C.GLANCE,
        _FULL.format("/var/lib/glance/images"),
        ("L2",),
        undo=_EMPTY.format("/var/lib/glance/images"),
    ),
    Breakage(
        "instances-full",
        "the disk of the servers is full",
        _C.NOVA_COMPUTE,
        _FULL.format("/var/lib/nova/instances"),
        ("L2",),
        undo=_EMPTY.format("/var/lib/nova/instances"),
    ),
    Breakage(
        "object-disk-full",
        "an object disk is full",
        _C.SWIFT_STORAGE,
        "for disk in /srv/node/*; do break; done; dd if=/dev/zero of=$disk/labctl-exercise bs=1M 2>/dev/null || true",
        ("L2",),
        undo="rm -f /srv/node/*/labctl-exercise",
    ),
    Breakage(
        "volume-group-full",
        "the volume group is full",
        _C.CINDER_VOLUME,
        "lvcreate -q -y -l 100%FREE -n labctl-exercise cinder-volumes",
        ("A30",),
        undo="lvremove -q -f cinder-volumes/labctl-exercise",
        only=_lvm,
    ),
    Breakage(
        "target-down",
        "the iSCSI targets are gone",
        _C.CINDER_VOLUME,
        "systemctl stop unit:iscsi-target",
        ("B47",),
        only=_lvm,
    ),
    Breakage(
        "names-slow",
        "a name server that does not answer",
        _C.NOVA_COMPUTE,
        _NO_NAMES,
        ("L8",),
        undo=f"iptables -w -D {_DROPPED}; "
        "[ ! -e /etc/resolv.conf.exercise ] || { cat /etc/resolv.conf.exercise >/etc/resolv.conf; "
        "rm /etc/resolv.conf.exercise; }",
    ),
    Breakage(
        "clock",
        "the clock is ten minutes ahead, and chrony does not look at it",
        _C.NOVA_COMPUTE,
        "systemctl stop unit:chrony; date -s '+10 minutes'",
        ("B1",),
        only=_own_clock,
    ),
    Breakage(
        "bridge-alone",
        "the bridge of the provider network has lost its card",
        _C.NEUTRON_L3,
        'ip link set dev "$provider" nomaster',
        ("A28",),
        only=mechanism(Mechanism.LINUXBRIDGE),
    ),
    Breakage(
        "image-format",
        "an image that is not what its format says",
        _C.KEYSTONE,
        "head -c 1M /dev/zero >/tmp/labctl-exercise.img; openstack image create --disk-format qcow2 "
        "--container-format bare --file /tmp/labctl-exercise.img labctl-exercise >/dev/null; "
        "rm /tmp/labctl-exercise.img; openstack image show -f value -c status labctl-exercise | grep -qx active",
        ("L11",),
        True,
        "openstack image delete labctl-exercise",
    ),
)
