"""What a service may read: the lab, its release and its base."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

from labctl import bases, releases
from labctl.bases.model import Base
from labctl.components import Component
from labctl.operations.node import quote
from labctl.releases.model import Release
from labctl.secret import mark
from labctl.topology.spec import LabSpec

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The lab, its release and its base: all that a service may read."""

    lab: LabSpec
    release: Release
    base: Base
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, spec: LabSpec) -> Context:
        """The facts of a lab.

        :raises LabError: labctl has no recipe for its release or base.
        """
        return cls(spec, releases.get(spec.release), bases.get(spec.base, spec.package_source))

    def once(self, make: Callable[Concatenate[Context, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function makes of the lab, made once: many nodes have the same files.

        :param make: a function of a module; its arguments are what the nodes that share its answer have in common.
        """
        key = (make, args, tuple(kwargs.items()))
        if key not in self._made:
            self._made[key] = make(self, *args, **kwargs)
        made: T = self._made[key]
        return made

    def host(self, component: Component) -> str:
        """Name of the node that runs a component."""
        return self.lab.host_of(component).name

    @property
    def identity_host(self) -> str:
        """Name of the node that runs keystone."""
        return self.host(Component.KEYSTONE)

    @property
    def auth_url(self) -> str:
        """Where people and labctl authenticate."""
        return f"http://{self.identity_host}:5000"

    @property
    def service_auth_url(self) -> str:
        """Where services and the admin authenticate: keystone's admin port in releases that have one (facts 6.0)."""
        return f"http://{self.identity_host}:{self.release.identity_admin_port}"

    def database_url(self, user: str, database: str) -> str:
        """SQLAlchemy URL of a database, with the secret's mark as password."""
        host = self.host(Component.MARIADB)
        return f"mysql+pymysql://{user}:{mark(user.upper() + '_DBPASS', 'url')}@{host}/{database}"

    def filled(self, project: str, *databases: str) -> str:
        """Shell that loads tables which the golden image has ready (schema.py), and fails with 1 if it has none.

        Empty where a project's own tree or a documented installation makes them.
        """
        if project in self.lab.sources or self.base.redhat is not None:
            return ""
        words = (project, mark(project.upper() + "_DBPASS"), self.host(Component.MARIADB), *databases)
        return "fill_tables " + " ".join(quote(word) for word in words)

    @property
    def transport_url(self) -> str:
        """oslo.messaging URL of the lab's RabbitMQ."""
        return f"rabbit://openstack:{mark('RABBIT_PASS', 'url')}@{self.host(Component.RABBITMQ)}:5672/"

    @property
    def memcached(self) -> str:
        """host:port of memcached."""
        return f"{self.host(Component.MEMCACHED)}:11211"
