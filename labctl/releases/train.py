"""Train (October 2019): RDO's packages on CentOS 7, or its projects from PyPI on Debian 12.

This release states every fact; the others state how they differ. Sources: docs/facts/releases.md, by section,
and the train install guides.
"""

from labctl.releases import rdo
from labctl.releases.model import PackageSource, Placement, PyPI, Release, Upgrade, VncNames, series

#: Kernels from 5.19 on read a flag of older ones as a bulk deletion, and reject it.
PYROUTE2 = "pyroute2==0.7.2"

#: The roles that the upgrade check of its keystone wants to be immutable, as those of a new cloud of Ussuri are.
IMMUTABLE = ("admin", "member", "reader")

TRAIN = Release(
    name="train",
    title="Train",
    number="",
    bases={"centos7": PackageSource.RDO, "debian12": PackageSource.PYPI},
    pypi=PyPI(python=("3.7", "3.8"), extra=("mock<4", PYROUTE2)),
    versions={
        PackageSource.RDO: series(
            "keystone 16.0.2, glance 19.0.4, placement 2.0.1, nova 20.6.0, neutron 15.3.4, cinder 15.6.0, swift 2.23.3,"
            "heat 13.1.0, horizon 16.2.2, python-openstackclient 4.0.2, gnocchi 4.3.5, ceilometer 13.1.2, aodh 9.0.0"
        ),
        PackageSource.PYPI: series(
            "keystone 16.0.2, glance 19.0.4, placement 2.0.1, nova 20.6.1, neutron 15.3.4, cinder 15.6.0, swift 2.23.3,"
            "heat 13.1.0, horizon 16.2.2, gnocchi 4.3.5, ceilometer 13.1.2, aodh 9.0.1"
        ),
    },
    upgrade=Upgrade(after=("stein",), immutable_roles=IMMUTABLE),
    rdo=rdo.TRAIN,
    identity_admin_port=5000,
    placement=Placement.PACKAGE,
    credential_keys=True,
    admin_token_filter=False,
    password_hash_rounds=True,
    cells_v2=True,
    consoleauth=False,
    glance_registry=False,
    authtoken_public_uri="www_authenticate_uri",
    transport_url=True,
    service_token=False,
    service_users=(),
    green_log_locks=False,
    eventlet_apis=(),
    service_role_bootstrapped=False,
    member_role="member",
    member_role_bootstrapped=True,
    nova_auth_strategy="api",
    nova_microversion="2.79",  # nova: REST API Version History, as in every release
    nova_api_servers=True,
    nova_scheduler_workers=True,
    nova_sleeps_to_stop=False,
    nova_use_neutron=True,
    nova_vnc_names=VncNames.SERVER,
    nova_neutron_url=False,
    nova_overcommits=True,
    nova_backing_format=True,
    neutron_allow_overlapping_ips=True,
    neutron_network_types="tenant_network_types",
    linuxbridge_experimental=False,
    mechanisms=("linuxbridge", "openvswitch"),
    neutron_metadata_host_key="nova_metadata_host",
    l3_interface_drivers={"linuxbridge": "linuxbridge", "openvswitch": "openvswitch"},
    external_network_bridge_empty=False,
    cinder_api_versions=(2, 3),
    cinder_target_prefix="target_",
    cinder_nova_account=True,
    cinder_nfs_snapshots=True,
    swift_copy=True,
    swift_s3=True,
    notifying=("glance", "nova", "neutron", "cinder", "heat"),
    heat_trustee_plugin="auth_type",
    aodh_evaluator_section="DEFAULT",
    client_networks=True,
    client_batch=True,
    django_cache="MemcachedCache",
    endpoint_project="project_id",
    nova_endpoint_path="/v2.1",
    tempest=("tempest==22.1.0",),
    tempest_known={},
)
