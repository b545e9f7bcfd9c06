"""Train (October 2019): RDO's packages on CentOS 7, or its projects from PyPI on Debian 12.

Sources: docs/facts/releases.md and the train install guides.
"""

from labctl.releases.model import PackageSource, Placement, PyPI, Release, VncNames

TRAIN = Release(
    name="train",
    title="Train",
    bases={"centos7": PackageSource.RDO, "debian12": PackageSource.PYPI},
    pypi=PyPI(
        python=("3.7", "3.8"),
        projects={
            "keystone": "keystone==16.0.2",
            "glance": "glance==19.0.4",
            "placement": "openstack-placement==2.0.1",
            "nova": "nova==20.6.1",
            "neutron": "neutron==15.3.4",
            "cinder": "cinder==15.6.0",
            "swift": "swift==2.23.3",
            "heat": "openstack-heat==13.1.0",
        },
        extra=("mock<4",),
    ),
    versions={
        "keystone": "16.0.2",
        "glance": "19.0.4",
        "placement": "2.0.1",
        "nova": "20.6.0",
        "neutron": "15.3.4",
        "cinder": "15.6.0",
        "swift": "2.23.3",
        "heat": "13.1.0",
        "horizon": "16.2.2",
        "python-openstackclient": "4.0.2",
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
    nova_use_neutron=True,
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
