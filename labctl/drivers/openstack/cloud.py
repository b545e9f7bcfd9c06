"""A cloud by its name in clouds.yaml, or a lab of labctl's own that is one: ``lab:NAME``.

Requests are plain JSON over an authenticated session. Those to a lab are made by threads inside its namespace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from keystoneauth1 import exceptions

from labctl.drivers.openstack import configured
from labctl.errors import BrokenLabError, DeadlineError, LabError
from labctl.host import namespace
from labctl.records import access
from labctl.records.lab import Lab
from labctl.topology.model import VirtType

T = TypeVar("T")
#: A cloud of that name is a lab of this home.
LAB = "lab:"
#: Requests side by side.
THREADS = 8
#: Seconds without a byte from an API.
TIMEOUT = 120.0
#: How many times slower than this host the machines of a lab are whose hypervisor emulates.
EMULATED = 10.0
#: API versions: tags and descriptions of servers need no more; Train and later have it.
MICROVERSION = "2.60"

#: Statuses that nothing comes after.
_ENDED = ("error", "error_extending", "killed", "deleted", "deactivated")


class Cloud:
    """One cloud; nothing is asked before the first request."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Why its policy forbids ports that filter nothing; empty until it did.
        self.forbids = ""

    # --- how it is reached -----------------------------------------------------------------------

    @cached_property
    def _lab(self) -> Lab | None:
        return Lab.load(self.name.removeprefix(LAB)) if self.name.startswith(LAB) else None

    @cached_property
    def _inside(self) -> namespace.Inside | None:
        lab = self._lab
        return namespace.Inside(lab.namespace, lab.hosts_file, THREADS) if lab else None

    @cached_property
    def _entry(self) -> tuple[Any, dict[str, Any]]:
        """The session, and what chooses the endpoints of its catalog."""
        from labctl.records import cloud as labs

        if self._lab:
            there = access.load(self._lab.name)
            session = labs.session(there, "admin", there.admin_password, there.admin_project, timeout=TIMEOUT)
            return session, {"interface": "public", "region_name": there.region}
        region = configured.entry(self.name)
        return region.get_session(), {"interface": region.get_interface("compute"), "region_name": region.region_name}

    @property
    def patience(self) -> float:
        """How many times slower than this host its servers are, as far as labctl knows."""
        return EMULATED * self._lab.spec.patience if self._lab and self._lab.spec.virt_type is VirtType.QEMU else 1.0

    @property
    def entrance(self) -> tuple[str, ...]:
        """The words before a command that speaks to the cloud's floating IPs."""
        return ("ip", "netns", "exec", self._lab.namespace) if self._lab else ()

    @property
    def image_format(self) -> str:
        """The disk format that it prefers: ``image_format`` of clouds.yaml, as openstacksdk documents it."""
        return "qcow2" if self._lab else str(configured.entry(self.name).config.get("image_format") or "qcow2")

    @cached_property
    def extensions(self) -> frozenset[str]:
        """The aliases of its network's extensions."""
        found = self.get("network", "/v2.0/extensions")["extensions"]
        return frozenset(str(each["alias"]) for each in found)

    def called(self, function: Callable[[], T]) -> T:
        """Call a function where the cloud's addresses are reachable."""
        return self._inside.call(function) if self._inside else function()

    # --- requests --------------------------------------------------------------------------------

    def request(self, service: str, method: str, path: str, **options: Any) -> Any:
        """A request to a service of the catalog; its answer.

        :raises LabError: the cloud cannot be reached, refuses the credentials, or answered with an error.
        """
        session, where = self._entry
        chosen = {"service_type": service, **where}
        if service == "compute":
            options.setdefault("microversion", MICROVERSION)
        try:
            return self.called(lambda: session.request(path, method, endpoint_filter=chosen, **options))
        except exceptions.HttpError as error:
            if isinstance(error, exceptions.Unauthorized):
                raise self._refused(error) from error
            raise Refusal(self, f"{method} {service}{path.partition('?')[0]}", error) from error
        except (exceptions.ClientException, OSError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> LabError:
        if not isinstance(error, exceptions.Unauthorized):
            reason = f"{type(error).__name__}: {error}"
            return BrokenLabError(f"the cloud {self.name} cannot be reached: {reason}", self.command("token issue"))
        return LabError(
            f"the cloud {self.name} refuses the credentials, or the token has expired: {error}",
            self.command("token issue"),
        )

    def command(self, words: str) -> str:
        """A command of the openstack client for this cloud, for hints."""
        if self._lab:
            return f"labctl exec {self._lab.name} -- openstack {words}"
        return f"openstack --os-cloud {self.name} {words}"

    def get(self, service: str, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """GET, as JSON."""
        return self.request(service, "GET", f"{path}?{urlencode(query)}" if query else path).json()

    def listed(self, service: str, path: str, key: str, query: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """GET of a list, with all its pages: Glance's have 25 entries."""
        answer = self.get(service, path, query)
        found = list(answer[key])
        while answer.get("next"):
            answer = self.get(service, answer["next"])
            found += answer[key]
        return found

    def post(self, service: str, path: str, body: Any) -> Any:
        """POST, as JSON; None where nothing is answered."""
        answer = self.request(service, "POST", path, json=body)
        return answer.json() if answer.content else None

    def put(self, service: str, path: str, body: Any) -> Any:
        """PUT, as JSON; None where nothing is answered."""
        answer = self.request(service, "PUT", path, json=body)
        return answer.json() if answer.content else None

    def delete(self, service: str, path: str) -> None:
        """DELETE; what does not exist is no error.

        :raises Refusal: it cannot be deleted.
        """
        try:
            self.request(service, "DELETE", path)
        except Refusal as error:
            if error.status != 404:
                raise

    def ready(self, service: str, path: str, wanted: str, what: str, seconds: float) -> None:
        """Wait until an image, a volume or a snapshot has a status.

        :param path: of the resource itself.
        :param what: it, in messages.
        :raises BrokenLabError: it cannot come to that any more.
        :raises DeadlineError: it takes longer than these seconds.
        """
        kind = path.split("/")[-2].rstrip("s")
        hint = self.command("volume snapshot list" if kind == "snapshot" else f"{kind} list")
        deadline = time.monotonic() + seconds
        while True:
            answer = self.get(service, path)
            status = answer.get(kind, answer)["status"]
            if status == wanted:
                return
            if status in _ENDED:
                raise BrokenLabError(f"{what}: the cloud {self.name} says {status}", hint)
            if time.monotonic() > deadline:
                raise DeadlineError(f"{what} is {status}, not {wanted}, after {seconds:g} s", hint)
            time.sleep(1)

    def has(self, service: str) -> bool:
        """True when its catalog has a service."""
        session, where = self._entry
        try:
            return self.called(lambda: session.get_endpoint(service_type=service, **where)) is not None
        except (exceptions.ClientException, OSError) as error:
            raise self._refused(error) from error

    @cached_property
    def project(self) -> str:
        """The id of the project."""
        session, _ = self._entry
        try:
            return str(self.called(session.get_project_id))
        except (exceptions.ClientException, OSError) as error:
            raise self._refused(error) from error

    def run(self, *words: str | Path) -> list[str]:
        """A command's words, so that it runs where the cloud's floating IPs are reachable."""
        return [*self.entrance, *map(str, words)]


@cache
def opened(name: str) -> Cloud:
    """A cloud, with one session for all who ask it."""
    return Cloud(name)


class Refusal(LabError):
    """An API's answer with an error: ``status`` of HTTP, ``reason`` in its own words."""

    def __init__(self, cloud: Cloud, what: str, error: exceptions.HttpError) -> None:
        self.status = error.http_status
        self.reason = _said(error)
        super().__init__(f"the cloud {cloud.name} refused {what}: {self.reason} (HTTP {self.status})")


def _said(error: exceptions.HttpError) -> str:
    """The message in an API's answer: each project has a form of its own."""
    with suppress(ValueError, AttributeError):
        told = error.response.json() if error.response is not None else {}
        for key in (None, *told):
            place = told if key is None else told[key]
            if isinstance(place, dict) and isinstance(place.get("message"), str):
                return str(place["message"])
    return str(error.details or error.message or error)
