"""The project that a worker's tests share in sequence: emptied after each test, replaced after a failure.

Creating a project, its user and its network with a router costs as much as booting a guest (keystone hashes the
password, agents make namespaces), and no test needs new ones. Tempest's classes share theirs too.
"""

from __future__ import annotations

from openstack.connection import Connection

from labctl.records.access import Access
from labctl.testing import cleanup, projects, resources
from labctl.testing.cleanup import LeftBehindError
from labctl.testing.projects import Project
from labctl.testing.resources import Names, Net


class KeptProject:
    """A project with a network, each created on first use."""

    def __init__(self, lab: Access, admin: Connection) -> None:
        self._lab, self._admin = lab, admin
        self._project: Project | None = None
        self._network: Net | None = None

    def project(self, name: Names) -> Project:
        """The project, created if there is none."""
        if self._project is None:
            self._project = projects.create(self._lab, self._admin, name("project"))
        return self._project

    def network(self, name: Names) -> Net:
        """The project's self-service network with a router to the external network."""
        if self._network is None:
            self._network = resources.make_network(self.project(name), name("net"))
        return self._network

    def give_back(self, *, failed: bool) -> None:
        """Empty the project for the next test; delete it after a failed test, or when it cannot be emptied.

        :raises LeftBehindError: it could not be emptied or deleted.
        """
        if failed:
            self.remove()
        elif self._project is not None:
            try:
                cleanup.empty(self._admin, self._project, self._network)
            except LeftBehindError:
                self.remove()
                raise

    def remove(self) -> None:
        """Delete the project with everything in it; the next test gets a new one.

        :raises LeftBehindError: lists everything that could not be removed.
        """
        project, self._project, self._network = self._project, None, None
        if project is not None:
            cleanup.destroy(self._admin, project)
