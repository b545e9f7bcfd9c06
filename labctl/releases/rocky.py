"""Rocky (August 2018): RDO's packages on CentOS 7, or its projects from PyPI on Debian 12.

Sources: docs/facts/releases.md and the rocky install guides.
"""

from labctl.releases import rdo
from labctl.releases.model import PackageSource, Placement, PyPI, Release, VncNames

ROCKY = Release(
    name="rocky",
    title="Rocky",
    bases={"centos7": PackageSource.RDO, "debian12": PackageSource.PYPI},
    pypi=PyPI(
        python=("3.6",),
        projects={
            "keystone": "keystone==14.2.0",
            "glance": "glance==17.0.1",
            "nova": "nova==18.3.0",
            "neutron": "neutron==13.0.7",
            "cinder": "cinder==13.0.9",
            "heat": "openstack-heat==11.0.3",
        },
        # a kernel from 5.19 on takes a flag of the older ones for a bulk deletion, and refuses it
        # and QEMU 7 writes a blank before a unit, which the oslo.utils of the constraints does not read
        extra=("pyroute2==0.7.2", "oslo.utils==3.41.6"),
    ),
    versions={
        "keystone": "14.2.0",
        "glance": "17.0.1",
        "placement": "18.3.0",
        "nova": "18.3.0",
        "neutron": "13.0.7",
        "cinder": "13.0.9",
        "swift": "2.19.2",
        "heat": "11.0.3",
        "horizon": "14.1.0",
        "python-openstackclient": "3.16.3",
    },
    rdo=rdo.ROCKY,
    identity_admin_port=5000,
    placement=Placement.IN_NOVA,
    credential_keys=True,
    admin_token_filter=False,
    cells_v2=True,
    consoleauth=True,
    glance_registry=True,
    authtoken_public_uri="www_authenticate_uri",
    transport_url=True,
    service_token=False,
    service_role_bootstrapped=False,
    member_role="member",
    member_role_bootstrapped=True,
    nova_auth_strategy="api",
    nova_scheduler_workers=True,
    nova_use_neutron=True,
    nova_vnc_names=VncNames.SERVER,
    nova_neutron_url=True,
    nova_backing_format=False,
    neutron_allow_overlapping_ips=True,
    linuxbridge_experimental=False,
    linuxbridge=True,
    openvswitch_documented=False,
    neutron_metadata_host_key="nova_metadata_host",
    l3_interface_drivers={"linuxbridge": "linuxbridge", "openvswitch": "openvswitch"},
    external_network_bridge_empty=False,
    cinder_api_versions=(2, 3),
    cinder_target_prefix="target_",
    cinder_nova_account=True,
    swift_copy=True,
    heat_trustee_plugin="auth_type",
    client_networks=True,
    client_batch=False,
    horizon_cache_backend="django.core.cache.backends.memcached.MemcachedCache",
    horizon_webroot_unset=False,
    endpoint_project="project_id",
    nova_endpoint_path="/v2.1",
    tempest=("tempest==19.0.0",),
)
