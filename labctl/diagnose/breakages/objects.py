"""Breakages of what the APIs keep: endpoints, accounts, networks, servers."""

from __future__ import annotations

from labctl.components import Component
from labctl.diagnose.breakages.model import Breakage
from labctl.topology.spec import LabSpec

_C = Component


def _swift(spec: LabSpec) -> bool:
    return spec.has(_C.SWIFT_PROXY)


BREAKAGES = (
    Breakage(
        "endpoint-port",
        "a public endpoint with a wrong port",
        _C.KEYSTONE,
        "id=$(openstack endpoint list --service image --interface public -f value -c ID); "
        "openstack endpoint set --url http://controller:9299 $id",
        ("A12",),
        True,
    ),
    Breakage(
        "endpoint-twice",
        "two public endpoints of one service",
        _C.KEYSTONE,
        'openstack endpoint create --region "$region" image public http://controller:9299',
        ("A12",),
        True,
        "openstack endpoint delete $(openstack endpoint list --service image --interface public -f value "
        "-c ID -c URL | awk '/:9299/ { print $1 }')",
    ),
    Breakage(
        "endpoint-missing",
        "no internal endpoint of neutron",
        _C.KEYSTONE,
        "openstack endpoint delete $(openstack endpoint list --service network --interface internal -f value -c ID)",
        ("A12",),
        True,
    ),
    Breakage(
        "endpoint-template",
        "a template with $(tenant_id)s",
        _C.KEYSTONE,
        "id=$(openstack endpoint list --service orchestration --interface public -f value -c ID); "
        "openstack endpoint set --url 'http://controller:8004/v1/$(tenant_id)s' $id",
        ("A12",),
        True,
    ),
    Breakage(
        "role-missing",
        "glance's role on the project service is gone",
        _C.KEYSTONE,
        "openstack role remove --user glance --project service admin",
        ("A13",),
        True,
    ),
    Breakage(
        "account-password",
        "cinder's account has another password",
        _C.KEYSTONE,
        "openstack user set --password other cinder",
        ("A11",),
        True,
    ),
    Breakage(
        "account-disabled",
        "neutron's account is disabled",
        _C.KEYSTONE,
        "openstack user set --disable neutron",
        ("A11",),
        True,
        "openstack user set --enable neutron",
    ),
    Breakage(
        "swift-role",
        "swift's role on the project service is gone",
        _C.KEYSTONE,
        "openstack role remove --user swift --project service admin",
        ("A13",),
        True,
        only=_swift,
    ),
    Breakage(
        "security-group",
        "a security group lets nothing through",
        _C.KEYSTONE,
        "openstack security group create labctl-exercise >/dev/null; "
        "openstack security group rule delete $(openstack security group rule list labctl-exercise -f value -c ID); "
        'openstack port create --network "$external" --security-group labctl-exercise labctl-exercise >/dev/null',
        ("L10",),
        True,
        "openstack port delete labctl-exercise; openstack security group delete labctl-exercise",
    ),
    Breakage(
        "flavor-too-large",
        "a server that fits on no host",
        _C.KEYSTONE,
        "openstack flavor create --ram 64 --disk 1000000 --vcpus 1 labctl-exercise >/dev/null; "
        'openstack server create --wait --flavor labctl-exercise --image "$image" --network "$external" '
        "labctl-exercise >/dev/null || true; openstack server list --status ERROR -f value -c Name | "
        "grep -qx labctl-exercise",
        ("B21",),
        True,
        "openstack server delete --wait labctl-exercise; openstack flavor delete labctl-exercise",
    ),
)
