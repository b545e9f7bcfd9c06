"""CentOS 7 with RDO's packages: Mitaka, Rocky and Train. Its Python is 2.7, its package manager yum."""

from __future__ import annotations

from labctl.bases import centos
from labctl.bases.debian import openstack_units
from labctl.bases.model import Base, RedHat
from labctl.components import Component as C
from labctl.releases.model import PackageSource

UNITS = {**centos.UNITS, "iscsi-target": ("lvm2-lvmetad", "target")}

PACKAGES = {
    **centos.PACKAGES,
    C.MARIADB: (*centos.PACKAGES[C.MARIADB], "python2-PyMySQL"),
    C.MEMCACHED: (*centos.PACKAGES[C.MEMCACHED], "python-memcached"),
    C.KEYSTONE: (*centos.PACKAGES[C.KEYSTONE], "mod_wsgi"),
    C.CINDER_VOLUME: (*centos.PACKAGES[C.CINDER_VOLUME], "python-keystone"),
    C.SWIFT_PROXY: (
        *centos.PACKAGES[C.SWIFT_PROXY],
        *centos.python("python", "swiftclient", "keystoneclient", "keystonemiddleware"),
    ),
    C.GNOCCHI: (*centos.PACKAGES[C.GNOCCHI], *centos.python("python2", "gnocchiclient")),
    C.AODH: (*centos.PACKAGES[C.AODH], *centos.python("python2", "aodhclient")),
}

CENTOS7 = Base(
    name="centos7",
    title="CentOS 7",
    family="redhat",
    source=PackageSource.RDO,
    suite="7.9.2009",
    common_packages=(
        *centos.SYSTEM,
        "policycoreutils-python",
        *centos.python(
            "python", "openstackclient", "heatclient", "swiftclient", "neutronclient", "cinderclient", "novaclient"
        ),
    ),
    packages=PACKAGES,
    l2_packages=centos.L2_PACKAGES,
    units=UNITS,
    paths=centos.PATHS,
    wsgi=(),
    openstack_units=openstack_units(UNITS, centos.EXTRA_UNITS),
    unwanted_units=centos.UNWANTED_UNITS,
    installer="yum",
    daemon_packages={
        **centos.DAEMON_PACKAGES,
        "ceilometermiddleware": centos.python("python2", "ceilometermiddleware"),
    },
    # this Erlang (16 to 19) predates the switches for dirty schedulers
    erlang_quiet="+sbwt none",
    rabbitmq_reads_password=False,
    own_kernel=True,  # its systemd needs the legacy cgroup hierarchy
    redhat=RedHat(
        repositories={"base": "os/x86_64", "updates": "updates/x86_64", "extras": "extras/x86_64"},
        enabled=(),
        modules=(),
        excluded=None,
        keys=centos.KEYS,
        booleans=(*centos.BOOLEANS, *centos.SEED_BOOLEANS),
    ),
)
