"""Write tempest.conf for a lab, with facts from its APIs."""

from __future__ import annotations

import configparser
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keystoneauth1.exceptions import ClientException

from labctl import bases
from labctl.components import Component
from labctl.errors import BrokenLabError
from labctl.records import access, cloud
from labctl.records.lab import Lab
from labctl.releases.model import Release
from labctl.services import SERVICES
from labctl.services.cinder import has_snapshots, shares_nfs
from labctl.text.quoting import oslo
from labctl.topology.spec import LabSpec

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Our word -> openstacksdk's for the same API.
APIS = {
    "compute": "compute",
    "placement": "placement",
    "volume": "block_storage",
    "image": "image",
    "identity": "identity",
}
#: The first API version with each feature (the projects' API version histories).
FQDN_SANITIZED = (2, 88)  # nova, wallaby
STABLE_RESCUE = (2, 87)  # nova, ussuri
RESERVED_PROPERTIES = (2, 13)  # glance, wallaby: properties named os_glance_*
IMAGE_IMPORT = (2, 6)  # glance, queens
ACCESS_RULES = (3, 13)  # keystone, train
#: The first microversion of the APIs that have them.
FIRST = {"compute": "2.1", "volume": "3.0", "placement": "1.0"}
#: Swift's name of the role.
RESELLER_ADMIN = "ResellerAdmin"


@dataclass(frozen=True)
class Seen:
    """Facts that only the lab's APIs know."""

    image: str
    flavor: str
    other_flavor: str
    network: str
    extensions: tuple[str, ...]
    object_storage: tuple[str, ...]
    #: newest version of an API, or its newest microversion
    versions: Mapping[str, tuple[int, int]]


def look(api: access.Access) -> Seen:
    """Query the lab's APIs; called by a thread inside its network.

    :raises BrokenLabError: an image, flavor or network of its fixtures is missing.
    """
    admin = cloud.as_admin(api)
    flavors = {f.name: str(f.id) for f in admin.compute.flavors()}
    missing = [name for name in api.flavors[:2] if name not in flavors]
    image = next((str(i.id) for i in admin.image.images() if i.name == api.image), "")
    network = next((str(n.id) for n in admin.network.networks() if n.name == api.external_network), "")
    missing += [name for name, found in ((api.image, image), (api.external_network, network)) if not found]
    if missing:
        raise BrokenLabError(f"{api.lab} has no {', '.join(missing)}", api.up)
    extensions = tuple(sorted(str(e.alias) for e in admin.network.extensions()))
    served = _capabilities(admin) if "swift-proxy" in api.components else ()
    versions = {ours: version for ours, sdk in APIS.items() if (version := _newest(admin, sdk))}
    names = [flavors[name] for name in api.flavors[:2]]
    return Seen(image, names[0], names[-1], network, extensions, served, versions)


def fetch_image(api: access.Access, seen: Seen, path: Path) -> None:
    """Download the lab's image, which scenarios upload again; called by a thread inside its network."""
    cloud.as_admin(api).image.download_image(seen.image, output=str(path), stream=True)


def _capabilities(admin: Connection) -> tuple[str, ...]:
    """All of Swift's capabilities: openstacksdk's ``get_info`` keeps only five of them.

    Container sync counts only when realms are configured.
    """
    proxy = urlsplit(str(admin.object_store.get_endpoint()))
    answer: Mapping[str, Any] = admin.session.get(f"{proxy.scheme}://{proxy.netloc}/info").json()
    return tuple(name for name, said in answer.items() if name != "container_sync" or said.get("realms"))


def _newest(admin: Connection, service: str) -> tuple[int, int] | None:
    from openstack.exceptions import SDKException

    try:
        data = getattr(admin, service).get_endpoint_data()
    except (SDKException, ClientException):
        return None
    version = data and (data.max_microversion or data.api_version)
    return (version[0], version[1]) if version and len(version) == 2 else None


def dashboard(spec: LabSpec) -> str:
    """URL of a lab's Horizon; empty without one."""
    nodes = spec.running(Component.HORIZON)
    path = bases.get(spec.base, spec.package_source).paths["horizon-url"]
    return f"http://{nodes[0].name}{path}/" if nodes else ""


def download(spec: LabSpec) -> str:
    """A URL that can be downloaded in a lab, with a port and a host that glance's filters allow.

    Debian's glance 25.1.0-2+deb12u5 resolves names with a trailing dot (``normalize_hostname``), which /etc/hosts
    does not have; an address passes.
    """
    nodes = spec.running(Component.HORIZON)
    path = bases.get(spec.base, spec.package_source).paths["horizon-url"]
    return f"http://{spec.address(nodes[0])}{path}/" if nodes else ""


def lend_role(api: access.Access) -> bool:
    """Create Swift's reseller role, which may set quotas of other accounts; no guide creates it.

    Called by a thread inside the lab's network.
    """
    identity = cloud.identity(cloud.as_admin(api))
    if identity.find_role(RESELLER_ADMIN) is not None:
        return False
    identity.create_role(name=RESELLER_ADMIN)
    return True


def return_role(api: access.Access) -> None:
    """Delete the role that :func:`lend_role` created."""
    identity = cloud.identity(cloud.as_admin(api))
    if (role := identity.find_role(RESELLER_ADMIN)) is not None:
        identity.delete_role(role)


def microversions(seen: Seen, service: str) -> dict[str, object]:
    """The microversions of an API, first to newest; empty when it has none."""
    newest = seen.versions.get(service)
    return {"min_microversion": FIRST[service], "max_microversion": "{}.{}".format(*newest)} if newest else {}


def configuration(lab: Lab, api: access.Access, release: Release, seen: Seen, disk: Path, work: Path) -> str:
    """The text of tempest.conf, which holds the administrator's password.

    Options are those of Tempest's own sample; timeouts are multiplied by the lab's patience.

    :param disk: the file of the lab's image.
    """
    spec = lab.spec
    slow = api.patience

    def has(service: str, version: tuple[int, int]) -> bool:
        return seen.versions.get(service, (0, 0)) >= version

    sections: dict[str, dict[str, object]] = {
        "DEFAULT": {"log_dir": work / "logs", "log_file": "tempest.log"},
        "oslo_concurrency": {"lock_path": work / "locks"},
        "auth": {
            "use_dynamic_credentials": True,
            "admin_username": "admin",
            "admin_password": api.admin_password,
            "admin_project_name": api.admin_project,
            "admin_domain_name": cloud.DOMAIN,
            "tempest_roles": release.member_role,
        },
        "identity": {
            "auth_version": "v3",
            "uri_v3": api.auth_url,
            "region": api.region,
            "v3_endpoint_type": "public",
            "default_domain_id": "default",
        },
        "dashboard": {"dashboard_url": dashboard(spec)},
        "identity-feature-enabled": {
            "api_v2": False,
            "api_v3": True,
            "access_rules": has("identity", ACCESS_RULES),
        },
        "service_available": {s.name: spec.has(*s.components) for s in SERVICES if s.tempest},
        "compute": {
            "image_ref": seen.image,
            "image_ref_alt": seen.image,
            "flavor_ref": seen.flavor,
            "flavor_ref_alt": seen.other_flavor,
            "min_compute_nodes": len(spec.running(Component.NOVA_COMPUTE)),
            "build_timeout": round(600 * slow),
            **microversions(seen, "compute"),
        },
        "compute-feature-enabled": {
            "live_migration": False,
            "vnc_console": True,
            "personality": False,  # nova writes into disks only if inject_partition is set; no guide sets it
            "attach_encrypted_volume": False,  # its keys would be in Barbican, which no lab has
            "stable_rescue": has("compute", STABLE_RESCUE),
            "hostname_fqdn_sanitization": has("compute", FQDN_SANITIZED),
        },
        "placement": microversions(seen, "placement"),
        "image": {"http_image": download(spec)},
        "image-feature-enabled": {
            "api_v1": False,
            "api_v2": True,
            "import_image": has("image", IMAGE_IMPORT) and spec.has(Component.HORIZON),  # something to download
            "os_glance_reserved": has("image", RESERVED_PROPERTIES),
        },
        "network": {"public_network_id": seen.network, "floating_network_name": api.external_network},
        "network-feature-enabled": {
            "api_extensions": ",".join(seen.extensions),
            "floating_ips": True,
            "port_security": "port-security" in seen.extensions,
            "ipv6": True,
            "ipv6_subnet_attributes": True,
        },
        "validation": {
            "run_validation": True,
            "image_ssh_user": api.guest_user,
            "image_alt_ssh_user": api.guest_user,  # image_ref_alt is the same image
            "ssh_timeout": round(300 * slow),
            "connect_timeout": 60,
        },
        "volume": {
            "catalog_type": f"volumev{max(release.cinder_api_versions)}",  # block-storage by default from Tempest 43 on
            "storage_protocol": "nfs" if shares_nfs(lab.context) else "iSCSI",
            "build_timeout": round(300 * slow),
            **(microversions(seen, "volume") if 3 in release.cinder_api_versions else {}),
        },
        "volume-feature-enabled": {
            "backup": False,
            "snapshot": has_snapshots(lab.context),
            "api_v2": 2 in release.cinder_api_versions,
            "api_v3": 3 in release.cinder_api_versions,
        },
        "object-storage": {"operator_role": release.member_role, "reseller_admin_role": RESELLER_ADMIN},
        "object-storage-feature-enabled": {"discoverable_apis": ",".join(seen.object_storage)},
        "scenario": {"img_file": disk, "img_disk_format": "qcow2", "dhcp_client": "udhcpc"},
    }
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    for name, options in sections.items():
        if name != "DEFAULT":
            parser.add_section(name)
        for key, value in options.items():
            parser.set(name, key, oslo(str(value)))
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
