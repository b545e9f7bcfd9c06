"""How to reach a lab: what pytest, `labctl env` and people need, in one place."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import LabError
from labctl.host import files, state
from labctl.records.lab import Lab
from labctl.secret import Secret
from labctl.topology.model import NetworkRole


@dataclass(frozen=True)
class Access:
    """Addresses, names and credentials of a lab that is up."""

    lab: str
    namespace: str
    hosts_file: Path
    auth_url: str
    region: str
    admin_password: str = field(repr=False)
    demo_password: str = field(repr=False)
    demo_project: str
    demo_user: str
    release: str
    topology: str
    components: frozenset[str]
    external_network: str
    external_cidr: str
    #: provider networks beside the external one, by the names that they have in neutron
    more_networks: tuple[str, ...]
    #: IPv6 prefix of the external network; empty: none
    external_ipv6: str
    #: neutron's name of a physical network, and the VLAN IDs that it may allocate there; empty: none
    vlan_physical: str
    vlan_ids: tuple[range, ...]
    image: str
    guest_user: str
    flavors: tuple[str, ...]
    nodes: Mapping[str, str]
    directory: Path
    capabilities: frozenset[str]
    #: the command that brings the lab up again
    up: str
    admin_project: str = "admin"
    #: how many times slower than the host the lab's machines are
    patience: float = 1.0
    #: the values of all of the lab's secrets, for redaction
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


def load(name: str) -> Access:
    """Read a lab's access data.

    :raises LabError: when there is no such lab.
    """
    lab = Lab.load(name)
    spec, secrets = lab.spec, lab.secrets()
    provider = spec.network(NetworkRole.PROVIDER)
    tagged = next((network for network in spec.providers if network.vlans), None)
    record: dict[str, Any] = state.read(lab.directory / "access" / "access.json", dict[str, Any], lab.up)
    return Access(
        lab=spec.name,
        namespace=lab.namespace,
        hosts_file=lab.hosts_file,
        auth_url=record["auth_url"],
        region=spec.region,
        admin_password=secrets["ADMIN_PASS"].reveal(),
        demo_password=secrets["DEMO_PASS"].reveal(),
        demo_project=spec.fixtures.project,
        demo_user=spec.fixtures.user,
        release=spec.release,
        topology=spec.topology,
        components=frozenset(c.value for n in spec.nodes.values() for c in n.runs),
        external_network=spec.fixtures.external_network,
        external_cidr=str(provider.cidr) if provider else "",
        more_networks=tuple(network.name for network in spec.providers[1:]),
        external_ipv6=str(provider.ipv6 or "") if provider else "",
        vlan_physical=tagged.physical if tagged else "",
        vlan_ids=tuple(range(each.first, each.last + 1) for each in tagged.vlans) if tagged else (),
        image=spec.fixtures.image,
        guest_user="cirros",
        flavors=tuple(spec.fixtures.flavors),
        nodes={n.name: str(spec.address(n)) for n in spec.nodes.values()},
        directory=lab.directory,
        capabilities=frozenset(record["capabilities"]),
        up=lab.up(),
        patience=record.get("patience", 1.0),
        secrets=frozenset(secret.reveal() for secret in secrets.values()),
    )


def write(lab: Lab, auth_url: str, secrets: Mapping[str, Secret]) -> None:
    """Write clouds.yaml and the openrc files of a lab (mode 0600)."""
    directory = lab.directory / "access"
    files.make_directories(directory, 0o700)
    people = {
        "admin": ("admin", "admin", "ADMIN_PASS"),
        "demo": (lab.spec.fixtures.user, lab.spec.fixtures.project, "DEMO_PASS"),
    }
    clouds = {}
    for label, (user, project, secret) in people.items():
        password = secrets[secret].reveal()
        auth = {
            "auth_url": f"{auth_url}/v3",
            "username": user,
            "password": password,
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        clouds[label] = {"auth": auth, "region_name": lab.spec.region, "identity_api_version": 3}
        rc = "".join(f"export OS_{k.upper()}={shlex.quote(v)}\n" for k, v in auth.items())
        rc += f"export OS_REGION_NAME={lab.spec.region}\nexport OS_IDENTITY_API_VERSION=3\n"
        files.write_atomic(directory / f"{label}-openrc", rc, 0o600)
    files.write_atomic(directory / "clouds.yaml", yaml.safe_dump({"clouds": clouds}), 0o600)
    facts = {"capabilities": lab.meta.get("capabilities", []), "patience": lab.meta.get("patience", 1.0)}
    record = {"auth_url": f"{auth_url}/v3", **facts}
    files.write_atomic(directory / "access.json", json.dumps(record))


def environment(lab: Lab, who: str = "admin") -> dict[str, str]:
    """The OS_ variables of a user, as the guides' environment scripts set them.

    :raises LabError: the lab has no such user, or no keystone, or was never brought up.
    """
    path = lab.directory / "access" / f"{who}-openrc"
    if not path.exists():
        raise LabError(f"the lab {lab.name} has no credentials for '{who}'", f"labctl status {lab.name}")
    pairs = (word.partition("=") for word in shlex.split(path.read_text()) if word != "export")
    return {key: value for key, _, value in pairs}
