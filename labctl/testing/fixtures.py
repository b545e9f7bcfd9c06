"""The fixtures of the suites; registered by ``labctl.testing.plugin`` once a lab has been entered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from openstack.connection import Connection

from labctl.host import files
from labctl.records import cloud
from labctl.records.access import Access
from labctl.testing import cleanup, guest, projects, resources
from labctl.testing.browser import chromium
from labctl.testing.guest import Guest, KeyPair
from labctl.testing.projects import Project
from labctl.testing.resources import Names, Net
from labctl.testing.reuse import KeptProject
from labctl.testing.stash import FAILED, LAB, artifacts

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

    from labctl.testing.faults import Faults

#: The projects of a test, for the failure capture.
PROJECTS: pytest.StashKey[list[Project]] = pytest.StashKey()


def admin_of(item: pytest.Item) -> Connection | None:
    """The administrator's connection that a test has used, if any."""
    found = getattr(item, "funcargs", {}).get("admin")
    return found if isinstance(found, Connection) else None


class Boot(Protocol):
    """Boots a server in the test's project; waits for ACTIVE unless ``wait`` is off."""

    def __call__(self, label: str = "vm", *, wait: bool = True, **options: Any) -> Any: ...


class Ssh(Protocol):
    """Logs in to a server at an address; without one through its floating IP, creating one if needed."""

    def __call__(self, server: Any, deadline: float = guest.SSH_DEADLINE, address: str = "") -> Guest: ...


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Access:
    """The lab under test: addresses, credentials, components."""
    return pytestconfig.stash[LAB]


@pytest.fixture(scope="session")
def artifacts_dir(pytestconfig: pytest.Config, lab: Access) -> Path:
    """Directory for screenshots and other files; shared by all tests of the run."""
    directory = artifacts(pytestconfig, lab)
    files.make_directories(directory)
    return directory


@pytest.fixture(scope="session")
def admin(lab: Access) -> Connection:
    """The lab's administrator."""
    return cloud.as_admin(lab)


@pytest.fixture(scope="session")
def demo(lab: Access) -> Connection:
    """The demo user that `up` created."""
    return cloud.as_demo(lab)


@pytest.fixture
def name() -> Names:
    """Makes names that no other test, worker or run uses."""
    return Names(os.environ.get("PYTEST_XDIST_WORKER", "main"))


@pytest.fixture
def faults(lab: Access, admin: Connection, project: Project) -> Iterator[Faults]:
    """Injects faults into the lab; heals them and waits for recovery before the project is deleted."""
    from labctl.testing.faults import Faults

    made = Faults(lab, admin)
    try:
        yield made
    finally:
        made.heal()
        made.wait_recovered()


@pytest.fixture(scope="session")
def kept_project(lab: Access, admin: Connection) -> Iterator[KeptProject]:
    """The worker's project, reused from test to test."""
    kept = KeptProject(lab, admin)
    yield kept
    kept.remove()


@pytest.fixture
def project(request: pytest.FixtureRequest, kept_project: KeptProject, name: Names) -> Iterator[Project]:
    """A project with an ordinary user, empty but for the `network` of earlier tests; emptied afterwards."""
    made = kept_project.project(name)
    request.node.stash.setdefault(PROJECTS, []).append(made)
    yield made
    kept_project.give_back(failed=request.node.stash.get(FAILED, False))


@pytest.fixture
def other_project(request: pytest.FixtureRequest, lab: Access, admin: Connection, name: Names) -> Iterator[Project]:
    """A second, throw-away project, to test isolation; deleted afterwards with everything in it."""
    made = projects.create(lab, admin, name("other"))
    request.node.stash.setdefault(PROJECTS, []).append(made)
    yield made
    cleanup.destroy(admin, made)


@pytest.fixture
def keypair(project: Project, name: Names) -> KeyPair:
    """A key pair of the project's user, registered with nova."""
    made = guest.new_key(name("key"))
    project.connection.compute.create_keypair(name=made.name, public_key=made.public)
    return made


@pytest.fixture
def network(project: Project, kept_project: KeptProject, name: Names) -> Net:
    """The project's self-service network with a subnet and a router to the external network.

    Later tests use it too: leave it unchanged.
    """
    return kept_project.network(name)


@pytest.fixture
def security_group(project: Project, name: Names) -> Any:
    """A security group that allows ping and SSH."""
    return resources.make_security_group(project, name("group"))


@pytest.fixture
def boot(project: Project, name: Names, keypair: KeyPair, network: Net, security_group: Any) -> Boot:
    """Boot servers on the project's network unless told another, with its key and security group."""

    def boot(label: str = "vm", *, wait: bool = True, **options: Any) -> Any:
        server = resources.create_server(
            project,
            name(label),
            **{"network": network.id, "key_name": keypair.name, "group": security_group.name, **options},
        )
        return resources.wait_server(project.connection, server) if wait else server

    return boot


@pytest.fixture
def console(project: Project) -> Callable[[Any], str]:
    """Read the console log of a server."""
    return lambda server: resources.console(project.connection, server)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    """A headless Chromium with its own profile."""
    with chromium(tmp_path) as made:
        yield made


@pytest.fixture
def ssh(lab: Access, project: Project, keypair: KeyPair, console: Callable[[Any], str]) -> Iterator[Ssh]:
    """Log in to servers; the connections are closed afterwards."""
    guests: list[Guest] = []

    def ssh(server: Any, deadline: float = guest.SSH_DEADLINE, address: str = "") -> Guest:
        found = Guest(
            address or resources.floating_address(project, server),
            lab.guest_user,
            keypair,
            failed=lambda: resources.fault(project.connection.compute.get_server(server.id)),
            console=lambda: console(server),
        )
        guests.append(found)
        return found.connect(deadline)

    yield ssh
    for found in guests:
        found.close()
