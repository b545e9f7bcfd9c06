"""Mitaka (April 2016): RDO's packages on CentOS 7.3.

Sources: docs/facts/releases.md, where [M] marks the official guide in script form. No option catalog of
Mitaka could be made, so its option names rest on the facts alone.
"""

from labctl.releases import rdo
from labctl.releases.model import PackageSource, Placement, Release, VncNames

_L3 = "neutron.agent.linux.interface."

MITAKA = Release(
    name="mitaka",
    title="Mitaka",
    bases={"centos7": PackageSource.RDO},
    pypi=None,
    rdo=rdo.MITAKA,
    versions={
        "keystone": "9",
        "glance": "12",
        "nova": "13.1",
        "neutron": "8.3",
        "cinder": "8",
        "swift": "2.7",
        "heat": "6",
        "horizon": "9",
        "python-openstackclient": "2.3",
    },
    identity_admin_port=35357,
    placement=Placement.NONE,
    credential_keys=False,
    password_hash_rounds=False,
    admin_token_filter=True,
    cells_v2=False,
    consoleauth=True,
    glance_registry=True,
    authtoken_public_uri="auth_uri",
    transport_url=False,
    service_token=False,
    service_role_bootstrapped=False,
    member_role="user",
    member_role_bootstrapped=False,
    nova_auth_strategy="DEFAULT",
    nova_scheduler_workers=False,
    nova_use_neutron=True,
    nova_vnc_names=VncNames.VNCSERVER,
    nova_neutron_url=True,
    nova_backing_format=False,
    neutron_allow_overlapping_ips=True,
    linuxbridge_experimental=False,
    linuxbridge=True,
    openvswitch_documented=False,
    neutron_metadata_host_key="nova_metadata_ip",
    l3_interface_drivers={"linuxbridge": _L3 + "BridgeInterfaceDriver", "openvswitch": _L3 + "OVSInterfaceDriver"},
    external_network_bridge_empty=True,
    cinder_api_versions=(1, 2),
    cinder_target_prefix="iscsi_",
    cinder_nova_account=False,
    swift_copy=False,
    heat_trustee_plugin="auth_plugin",
    client_networks=False,
    client_batch=False,
    horizon_cache_backend="django.core.cache.backends.memcached.MemcachedCache",
    horizon_webroot_unset=False,
    endpoint_project="tenant_id",
    nova_endpoint_path="/v2.1/%(tenant_id)s",
    tempest=("tempest==15.0.0",),  # 16.0.0 gave up mitaka; not tried
)
