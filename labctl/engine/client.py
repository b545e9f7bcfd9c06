"""A client of a lab's APIs with keystoneauth; works inside the lab's namespace, where the APIs are reachable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from keystoneauth1 import exceptions
from keystoneauth1.identity import v3

from labctl.errors import DeadlineError
from labctl.host.polling import pause
from labctl.records.cloud import Session
from labctl.records.lab import Lab
from labctl.secret import Secret, reveal

Json = dict[str, Any]


@dataclass
class _Known:
    """Identity objects looked up once: name to id."""

    projects: dict[str, str] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    users: dict[tuple[str, str], str] = field(default_factory=dict)


class Client:
    """One authenticated session as the lab's admin; must be used inside the lab's namespace.

    Deadlines are as many times longer as the lab's machines are slower than the host.
    """

    def __init__(self, lab: Lab, secrets: Mapping[str, Secret]) -> None:
        self._lab, self._region = lab.name, lab.spec.region
        self._patience = lab.driver.patience
        self._auth_url = f"{lab.context.auth_url}/v3"
        self._secrets = secrets
        self._auth = self._login("admin", "admin", secrets["ADMIN_PASS"].reveal())
        self._session = Session(auth=self._auth, timeout=60 * self._patience)
        self._known: _Known | None = None

    def _login(self, user: str, project: str, password: str) -> v3.Password:
        return v3.Password(
            auth_url=self._auth_url,
            username=user,
            password=password,
            project_name=project,
            user_domain_name="Default",
            project_domain_name="Default",
        )

    def hurry(self, seconds: float) -> None:
        """Wait only so many seconds for each further request."""
        self._session.timeout = seconds * self._patience

    # --- requests ------------------------------------------------------------------------------

    def _request(self, service: str, method: str, path: str, **options: Any) -> Any:
        """A JSON request to a service of the catalog."""
        where = {"service_type": service, "interface": "public", "region_name": self._region}
        answer = self._session.request(path, method, endpoint_filter=where, **options)
        return answer.json() if answer.content else {}

    def get(self, service: str, path: str) -> Json:
        """GET, as JSON."""
        found: Json = self._request(service, "GET", path)
        return found

    def rows(self, service: str, path: str) -> list[Any]:
        """GET of an API that answers with a list."""
        found: list[Any] = self._request(service, "GET", path)
        return found

    def post(self, service: str, path: str, body: Json) -> Json:
        """POST, as JSON."""
        made: Json = self._request(service, "POST", path, json=body)
        return made

    def put(self, service: str, path: str, body: Json) -> Json:
        """PUT, as JSON."""
        changed: Json = self._request(service, "PUT", path, json=body)
        return changed

    def delete(self, service: str, path: str) -> None:
        """DELETE."""
        self._request(service, "DELETE", path)

    @property
    def _identity(self) -> _Known:
        if self._known is None:
            self._known = _Known(
                {p["name"]: p["id"] for p in self.get("identity", "/projects")["projects"]},
                {d["name"]: d["id"] for d in self.get("identity", "/domains")["domains"]},
                {r["name"]: r["id"] for r in self.get("identity", "/roles")["roles"]},
                {(u["domain_id"], u["name"]): u["id"] for u in self.get("identity", "/users")["users"]},
            )
        return self._known

    def password_holds(self, user_id: str, password: str) -> bool:
        """Whether an account accepts a password, the mark of a secret."""
        password = reveal(password, self._secrets)
        auth = v3.Password(auth_url=self._auth_url, user_id=user_id, password=password, unscoped=True)
        try:
            Session(auth=auth, timeout=self._session.timeout).get_token()
        except exceptions.Unauthorized:
            return False
        return True

    def _ensure(self, kind: str, identity: Json, rest: Json | None = None) -> tuple[Json, bool]:
        """The network object with these attributes, and whether it was created."""
        found = self.get("network", f"/v2.0/{kind}s?{urlencode(identity)}")[f"{kind}s"]
        if found:
            return found[0], False
        return self.post("network", f"/v2.0/{kind}s", {kind: {**identity, **(rest or {})}})[kind], True

    def _until(self, what: str, seconds: float, look: Callable[[], str]) -> bool:
        """Wait until ``look`` returns an empty string; any other value says what is missing."""
        seconds *= self._patience
        deadline = time.monotonic() + seconds
        while True:
            asked = time.monotonic()
            try:
                missing = look()
            except (exceptions.ClientException, KeyError) as error:
                missing = f"{type(error).__name__}: {error}"
            if not missing:
                return False
            now = time.monotonic()
            if now > deadline:
                raise DeadlineError(f"{what}: timed out after {seconds:g} s: {missing}", f"labctl status {self._lab}")
            time.sleep(pause(now - asked, 0.4))
