"""Projects for tests: one project and one ordinary user."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cached_property

from openstack.connection import Connection

from labctl.errors import BrokenLabError
from labctl.records import cloud
from labctl.records.access import Access

#: The roles of an ordinary user of a lab: the first of MEMBER that exists (keystone's bootstrap creates `member`
#: from Rocky on), and each of EXTRA that exists (the guides of heat and swift create these).
MEMBER = ("member", "_member_", "user")
EXTRA = ("heat_stack_owner", "swiftoperator")


@dataclass(frozen=True)
class Project:
    """A project with one user, who is not an administrator."""

    lab: Access
    id: str
    name: str
    user_id: str
    user: str
    password: str = field(repr=False)

    @cached_property
    def connection(self) -> Connection:
        """The connection of the project's user."""
        return cloud.connect(self.lab, self.user, self.password, self.name)


def create(lab: Access, admin: Connection, name: str) -> Project:
    """Create a project, its user and the user's roles; clean up when a step fails.

    :raises BrokenLabError: the lab has no role for ordinary users.
    """
    keystone = cloud.identity(admin)
    domain = cloud.access_info(admin.session).project_domain_id
    roles = {str(role.name).lower(): role for role in keystone.roles()}
    member = next((roles[known] for known in MEMBER if known in roles), None)
    if member is None:
        raise BrokenLabError(f"lab {lab.lab} has none of the roles {', '.join(MEMBER)}", lab.up)
    password = secrets.token_urlsafe(24)
    project = keystone.create_project(name=name, domain_id=domain, description="labctl e2e")
    try:
        user = keystone.create_user(name=name, domain_id=domain, password=password)
        try:
            for role in (member, *(roles[extra] for extra in EXTRA if extra in roles)):
                keystone.assign_project_role_to_user(project, user, role)
        except BaseException:
            keystone.delete_user(user)
            raise
    except BaseException:
        keystone.delete_project(project)
        raise
    return Project(lab, project.id, name, user.id, name, password)
