"""CentOS 8 with RDO's packages: Ussuri. Its Python is 3.6, its package manager dnf with module streams."""

from __future__ import annotations

from labctl.bases import centos
from labctl.bases.debian import openstack_units
from labctl.bases.model import Base, RedHat
from labctl.components import Component as C
from labctl.releases.model import PackageSource

PACKAGES = {
    **centos.PACKAGES,
    C.MARIADB: (*centos.PACKAGES[C.MARIADB], "python3-PyMySQL"),
    C.MEMCACHED: (*centos.PACKAGES[C.MEMCACHED], "python3-memcached"),
    C.KEYSTONE: (*centos.PACKAGES[C.KEYSTONE], "python3-mod_wsgi"),
    C.CINDER_VOLUME: (*centos.PACKAGES[C.CINDER_VOLUME], "python3-keystone"),
    C.SWIFT_PROXY: (
        *centos.PACKAGES[C.SWIFT_PROXY],
        *centos.python("python3", "swiftclient", "keystoneclient", "keystonemiddleware"),
    ),
    C.GNOCCHI: (*centos.PACKAGES[C.GNOCCHI], *centos.python("python3", "gnocchiclient")),
    C.AODH: (*centos.PACKAGES[C.AODH], *centos.python("python3", "aodhclient")),
    # EL8 has rsyncd.service in a separate package
    C.SWIFT_STORAGE: (*centos.PACKAGES[C.SWIFT_STORAGE], "rsync-daemon"),
}

#: The wrapper obsoletes the cloud repository's own openvswitch, and from 2020-11-20 on needs the NFV SIG's
#: 2.13, whose repository the release package does not add (facts 2.3, troubleshooting B5).
EXCLUDED = ("/etc/dnf/dnf.conf", "excludepkgs", ("rdo-openvswitch*", "python3-rdo-openvswitch*"))

CENTOS8 = Base(
    name="centos8",
    title="CentOS 8",
    family="redhat",
    source=PackageSource.RDO,
    suite="8.2.2004",
    common_packages=(
        *centos.SYSTEM,
        "policycoreutils-python-utils",
        "network-scripts",
        *centos.python("python3", "openstackclient", "heatclient", "swiftclient", "osc-placement"),
    ),
    packages=PACKAGES,
    l2_packages={**centos.L2_PACKAGES, "openvswitch": (*centos.L2_PACKAGES["openvswitch"], "libibverbs")},
    units=centos.UNITS,
    paths=centos.PATHS,
    wsgi=(),
    openstack_units=openstack_units(centos.UNITS, centos.EXTRA_UNITS),
    unwanted_units=centos.UNWANTED_UNITS,
    installer="dnf",
    daemon_packages={
        **centos.DAEMON_PACKAGES,
        "ceilometermiddleware": centos.python("python3", "ceilometermiddleware"),
    },
    own_kernel=True,
    redhat=RedHat(
        repositories={
            "BaseOS": "BaseOS/x86_64/os",
            "AppStream": "AppStream/x86_64/os",
            "extras": "extras/x86_64/os",
            "PowerTools": "PowerTools/x86_64/os",
        },
        enabled=("powertools",),  # "PowerTools" up to 8.2, "powertools" from 8.3 (troubleshooting B4)
        modules=("mariadb:10.3",),
        excluded=EXCLUDED,
        keys=centos.KEYS,
        booleans=(*centos.BOOLEANS, *centos.SEED_BOOLEANS),
    ),
)
