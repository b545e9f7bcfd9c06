"""Mitaka (April 2016): RDO's packages on CentOS 7.3, as differences from Rocky.

Sources: docs/facts/releases.md, where [M] marks the official guide in script form.
"""

from dataclasses import replace

from labctl.releases import rdo
from labctl.releases.model import PackageSource, Placement, VncNames, series
from labctl.releases.rocky import ROCKY

_RDO = (
    "keystone 9, glance 12, nova 13.1, neutron 8.3, cinder 8, swift 2.7, heat 6, horizon 9, python-openstackclient 2.3"
)
_L3 = "neutron.agent.linux.interface."

MITAKA = replace(
    ROCKY,
    name="mitaka",
    title="Mitaka",
    bases={"centos7": PackageSource.RDO},
    pypi=None,
    rdo=rdo.MITAKA,
    versions={PackageSource.RDO: series(_RDO)},
    identity_admin_port=35357,  # facts 5.3
    placement=Placement.NONE,  # facts 6.3
    credential_keys=False,  # facts 6.1, as the next two
    password_hash_rounds=False,
    admin_token_filter=True,
    cells_v2=False,  # facts 6.4
    authtoken_public_uri="auth_uri",  # facts 6.0, as the next
    transport_url=False,
    member_role="user",  # facts 6.1, as the next
    member_role_bootstrapped=False,
    nova_auth_strategy="DEFAULT",  # facts 6.4, as the next two
    nova_microversion="2.25",
    nova_scheduler_workers=False,
    nova_vnc_names=VncNames.VNCSERVER,
    neutron_metadata_host_key="nova_metadata_ip",  # facts 6.5, as the next two
    l3_interface_drivers={"linuxbridge": _L3 + "BridgeInterfaceDriver", "openvswitch": _L3 + "OVSInterfaceDriver"},
    external_network_bridge_empty=True,
    cinder_api_versions=(1, 2),  # facts 6.7, as the next two
    cinder_target_prefix="iscsi_",
    cinder_nova_account=False,
    cinder_nfs_snapshots=False,  # its driver has none, nor the option: from ocata
    swift_copy=False,  # facts 6.8
    swift_s3=False,  # swift 2.18.0 is the first with it
    heat_trustee_plugin="auth_plugin",  # facts 6.9
    client_networks=False,  # facts 9
    endpoint_project="tenant_id",  # facts 5.2, as the next
    nova_endpoint_path="/v2.1/%(tenant_id)s",
    tempest=("tempest==15.0.0",),  # 16.0.0 dropped mitaka; not tried
)
