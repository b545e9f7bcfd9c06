"""Connections to a lab's APIs, made from an explicit session: no clouds.yaml, no OS_* variables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

import requests
from keystoneauth1 import session as keystone_session
from keystoneauth1.access import AccessInfoV3
from keystoneauth1.identity import v3

from labctl.errors import BrokenLabError
from labctl.records.access import Access

if TYPE_CHECKING:  # a fifth of labctl's start, and few commands speak to the APIs through it
    from openstack.connection import Connection
    from openstack.identity.v3._proxy import Proxy as IdentityV3

REQUEST_TIMEOUT = 60  # seconds without a byte from an API before a request times out
DOMAIN = "Default"
#: The API versions that a lab reported, by address: the same for every user, so cached.
_versions: defaultdict[str, dict[str, Any]] = defaultdict(dict)
_READS = ("GET", "HEAD", "OPTIONS")


class Session(keystone_session.Session):
    """A keystone session that remembers in which services it changed something.

    It does not use the host's proxy: no proxy reaches a lab's addresses and names.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.session.trust_env = False
        #: Service types as in catalogs; "" for a request to a bare URL.
        self.changed: set[str] = set()

    def request(self, url: str, method: str, *args: Any, **options: Any) -> requests.Response:
        """Send a request; remember its service unless it only reads, or requests the session's own token."""
        if method.upper() not in _READS and options.get("authenticated") is not False:
            self.changed.add((options.get("endpoint_filter") or {}).get("service_type") or "")
        return super().request(url, method, *args, **options)


def session(lab: Access, user: str, password: str, project: str, *, timeout: float = REQUEST_TIMEOUT) -> Session:
    """A keystone session scoped to a project of the default domain. No request is made yet.

    :param timeout: seconds without a byte before a request times out; multiplied by the lab's patience.
    """
    auth = v3.Password(
        auth_url=lab.auth_url,
        username=user,
        password=password,
        project_name=project,
        user_domain_name=DOMAIN,
        project_domain_name=DOMAIN,
    )
    return Session(auth=auth, timeout=timeout * lab.patience, app_name="labctl-e2e", discovery_cache=_versions[lab.lab])


def connect(lab: Access, user: str, password: str, project: str) -> Connection:
    """An openstacksdk connection through the public endpoints of the lab's region."""
    from openstack.connection import Connection

    return Connection(session=session(lab, user, password, project), region_name=lab.region, interface="public")


def as_admin(lab: Access) -> Connection:
    """The lab's administrator."""
    return connect(lab, "admin", lab.admin_password, lab.admin_project)


def as_demo(lab: Access) -> Connection:
    """The ordinary user that the fixtures stage made."""
    return connect(lab, lab.demo_user, lab.demo_password, lab.demo_project)


def identity(connection: Connection) -> IdentityV3:
    """Keystone's v3 API.

    :raises BrokenLabError: keystone offers something older.
    """
    from openstack.identity.v3._proxy import Proxy as IdentityV3

    proxy = connection.identity
    if not isinstance(proxy, IdentityV3):
        raise BrokenLabError("keystone does not offer its v3 API at the auth URL")
    return proxy


def access_info(session: keystone_session.Session) -> AccessInfoV3:
    """What keystone sent with the session's token: user, project, roles, catalog."""
    return cast(AccessInfoV3, cast(v3.Password, session.auth).get_access(session))


def catalog(connection: Connection) -> list[dict[str, Any]]:
    """The services of the token's catalog, as keystone sends them: type, name, endpoints."""
    return access_info(connection.session).service_catalog.catalog


def check(lab: Access, timeout: float = 20) -> None:
    """Ask keystone for a token.

    :param timeout: seconds without an answer.
    :raises BrokenLabError: keystone is unreachable or refuses.
    """
    try:
        session(lab, "admin", lab.admin_password, lab.admin_project, timeout=timeout).get_token()
    except Exception as error:  # whatever the cause: no token is the one message
        raise BrokenLabError(
            f"lab {lab.lab} issues no token at {lab.auth_url}: {type(error).__name__}: {error}",
            f"labctl status {lab.lab}; {lab.up}",
        ) from error


def changed(*connections: Connection) -> set[str]:
    """The types of the services in which any of these connections has changed something."""
    return set().union(*(cast(Session, connection.session).changed for connection in connections))


def forget_changes(*connections: Connection) -> None:
    """Forget what these connections have changed so far: it is undone, or no longer relevant."""
    for connection in connections:
        cast(Session, connection.session).changed.clear()


def body(response: Any) -> Any:
    """The JSON of a raw response.

    :raises AssertionError: status 400 or more, with the answer's text.
    """
    if response.status_code >= 400:
        raise AssertionError(f"{response.url} answered {response.status_code}: {response.text[:500]}")
    return response.json()
