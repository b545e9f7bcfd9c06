"""Rules about names that may not be used twice: in the file, or by the file and by OpenStack."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.topology.model import Topology
from labctl.topology.problems import Positions, Problem
from labctl.topology.rules_secrets import SECRETS

#: What every machine calls itself (``LabSpec.hosts_file``).
_EVERY_MACHINE = ("localhost", "ip6-localhost", "ip6-loopback")
#: The accounts of the admin and of the services. Keystone's names are without case: its database compares so.
_ACCOUNTS = {"heat_domain_admin"} | {name.removesuffix("_PASS").lower() for name in SECRETS} - {"demo"}
_PROJECTS = ("admin", "service")


def node_names_are_not_localhost(topology: Topology, at: Positions) -> Iterator[Problem]:
    """``localhost`` is every machine's own name for itself."""
    for name in _EVERY_MACHINE:
        if name in topology.nodes:
            yield at.problem(
                ("nodes", name), f"every machine calls itself {name}; give the node another name", key=True
            )


def fixtures_are_not_the_clouds_own(topology: Topology, at: Positions) -> Iterator[Problem]:
    """The user and the project of the fixtures are not those of the admin and the services."""
    user, project = topology.fixtures.user, topology.fixtures.project
    if user.lower() in _ACCOUNTS:
        yield at.problem(("fixtures", "user"), f"{user!r} is an account of OpenStack itself; choose another")
    if project.lower() in _PROJECTS:
        yield at.problem(("fixtures", "project"), f"{project!r} is a project of OpenStack itself; choose another")


def names_are_used_once(topology: Topology, at: Positions) -> Iterator[Problem]:
    """Names that differ in case only are the same: those of secrets for labctl, of flavors for nova's database."""
    for path, names in (
        (("passwords",), topology.passwords),
        (("fixtures", "flavors"), topology.fixtures.flavors),
    ):
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(name.lower(), name)
            if other != name:
                yield at.problem((*path, name), f"{name!r} is the same as {other!r}", key=True)
    networks = topology.fixtures
    if networks.internal_network == networks.external_network:
        yield at.problem(
            ("fixtures", "internal_network"),
            f"{networks.internal_network!r} is already the name of the external network; choose another",
        )


RULES = (
    node_names_are_not_localhost,
    fixtures_are_not_the_clouds_own,
    names_are_used_once,
)
