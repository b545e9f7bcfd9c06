"""Ussuri (May 2020): RDO's packages on CentOS 8, or its projects from PyPI on Debian 12.

Sources: docs/facts/releases.md and the ussuri install guides.
"""

from labctl.releases.model import PackageSource, Placement, PyPI, Release, VncNames

USSURI = Release(
    name="ussuri",
    title="Ussuri",
    bases={"centos8": PackageSource.RDO, "debian12": PackageSource.PYPI},
    pypi=PyPI(
        python=("3.7", "3.8"),
        projects={
            "keystone": "keystone==17.0.1",
            "glance": "glance==20.2.0",
            "placement": "openstack-placement==3.0.1",
            "nova": "nova==21.2.4",
            "neutron": "neutron==16.4.2",
            "cinder": "cinder==16.4.2",
            "swift": "swift==2.25.2",
            "heat": "openstack-heat==14.2.0",
        },
    ),
    versions={
        "keystone": "17.0.1",
        "glance": "20.2.0",
        "placement": "3.0.1",
        "nova": "21.2.4",
        "neutron": "16.4.2",
        "cinder": "16.4.2",
        "swift": "2.25.2",
        "heat": "14.2.0",
        "horizon": "18.3.5",
        "python-openstackclient": "5.2.0",
    },
    identity_admin_port=5000,
    placement=Placement.PACKAGE,
    cells_v2=True,
    consoleauth=False,
    glance_registry=False,
    authtoken_public_uri="www_authenticate_uri",
    transport_url=True,
    service_token=False,
    service_role_bootstrapped=False,
    member_role="member",
    nova_use_neutron=False,
    nova_vnc_names=VncNames.SERVER,
    nova_neutron_url=False,
    neutron_allow_overlapping_ips=True,
    linuxbridge_experimental=False,
    linuxbridge=True,
    neutron_metadata_host_key="nova_metadata_host",
    l3_interface_drivers={"linuxbridge": "linuxbridge", "openvswitch": "openvswitch"},
    external_network_bridge_empty=False,
    cinder_api_versions=(2, 3),
    cinder_target_prefix="target_",
    horizon_cache_backend="django.core.cache.backends.memcached.MemcachedCache",
    horizon_webroot_unset=True,
    endpoint_project="project_id",
    nova_endpoint_path="/v2.1",
)
