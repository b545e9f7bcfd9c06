"""RDO's trees on the vault, release by release: facts 2.2 to 2.4.

Nothing was fetched from the vault for this table: its paths come from public scripts and mirror listings.
"""

from __future__ import annotations

from labctl.releases.model import RDO

MITAKA = RDO(
    # the trees of 7.4 and later lack Mitaka, and its packages were never tried on their libraries
    point_release="7.3.1611",
    release_package="centos-release-openstack-mitaka",
    repositories={"centos-openstack-mitaka": "cloud/x86_64/openstack-mitaka"},
    unwanted=("centos-ceph-hammer",),
    # as in the notes; its openstack-selinux is laid out differently from the one the facts describe
    selinux="permissive",
    # older builds have the old name; a file that both contain matches either
    renamed={"python2-PyMySQL": "/usr/lib/python2.7/site-packages/pymysql"},
)

ROCKY = RDO(
    point_release="7.9.2009",
    release_package="centos-release-openstack-rocky",
    repositories={
        "centos-openstack-rocky": "cloud/x86_64/openstack-rocky",
        "centos-qemu-ev": "virt/x86_64/kvm-common",
        "centos-ceph-luminous": "storage/x86_64/ceph-luminous",
    },
    unwanted=(),
    selinux="enforcing",
    renamed={},
)

TRAIN = RDO(
    point_release="7.9.2009",
    release_package="centos-release-openstack-train",
    repositories={
        "centos-openstack-train": "cloud/x86_64/openstack-train",
        "centos-qemu-ev": "virt/x86_64/kvm-common",
        "centos-ceph-nautilus": "storage/x86_64/ceph-nautilus",
    },
    unwanted=("centos-nfs-ganesha28",),
    selinux="enforcing",
    renamed={},
)

USSURI = RDO(
    # the point release of the notes; all its SIG trees were seen
    point_release="8.2.2004",
    release_package="centos-release-openstack-ussuri",
    repositories={
        "centos-openstack-ussuri": "cloud/x86_64/openstack-ussuri",
        "centos-advanced-virtualization": "virt/x86_64/advanced-virtualization",
        "centos-rabbitmq-38": "messaging/x86_64/rabbitmq-38",
        "centos-ceph-nautilus": "storage/x86_64/ceph-nautilus",
    },
    unwanted=(),
    selinux="enforcing",
    renamed={},
)
