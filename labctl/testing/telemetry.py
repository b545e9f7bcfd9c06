"""Gnocchi's and Aodh's APIs as a project's user sees them, and a web hook in the lab."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from openstack.connection import Connection

from labctl.records.lab import Lab


@dataclass(frozen=True)
class Measure:
    """One point: when its interval began, and the aggregate."""

    time: datetime
    value: float


class Telemetry:
    """What one user may see and set."""

    def __init__(self, connection: Connection) -> None:
        self._session = connection.session

    def _ask(self, service: str, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(
            path, method, endpoint_filter={"service_type": service}, raise_exc=False, **options
        )
        if answer.status_code in (403, 404):  # gnocchi tells nobody whose resource it is
            return None
        if answer.status_code >= 400:
            raise AssertionError(f"{service}: {method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def resource(self, type_: str, resource: str) -> Any:
        """A resource with its metrics, or None where this user sees none."""
        return self._ask("metric", "GET", f"/v1/resource/{type_}/{resource}")

    def resources(self, type_: str, instance: str) -> list[Any]:
        """The disks or network cards of a server."""
        query = {"=": {"instance_id": instance}}
        return self._ask("metric", "POST", f"/v1/search/resource/{type_}", json=query) or []

    def measures(self, resource: str, metric: str, method: str = "mean") -> list[Measure]:
        """The measures of a resource, oldest first; none where there is no such metric yet."""
        path = f"/v1/resource/generic/{resource}/metric/{metric}/measures?aggregation={method}"
        rows = self._ask("metric", "GET", path) or []
        return [Measure(datetime.fromisoformat(row[0]), row[2]) for row in rows]

    def make_alarm(self, name: str, **attributes: Any) -> str:
        """Make an alarm and return its id."""
        return str(self._ask("alarming", "POST", "/v2/alarms", json={"name": name, **attributes})["alarm_id"])

    def alarm(self, alarm: str) -> Any:
        """An alarm, with its state and why."""
        return self._ask("alarming", "GET", f"/v2/alarms/{alarm}")

    def history(self, alarm: str) -> list[str]:
        """The states that an alarm has had, oldest first."""
        rows = self._ask("alarming", "GET", f"/v2/alarms/{alarm}/history")
        changes = [row for row in reversed(rows) if row["type"] == "state transition"]
        return [json.loads(row["detail"])["state"] for row in changes]

    def remove_alarm(self, alarm: str) -> None:
        """Delete an alarm."""
        self._ask("alarming", "DELETE", f"/v2/alarms/{alarm}")


@dataclass
class Hook:
    """A web hook's address, and what was sent to it."""

    url: str
    calls: list[Any] = field(default_factory=list)


@contextmanager
def hook(lab: str) -> Iterator[Hook]:
    """Listen in the lab's namespace, where its nodes reach the gateway of their management network."""
    gateway = str(Lab.load(lab).spec.management.gateway)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.calls.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer((gateway, 0), Handler) as server:
        made = Hook(f"http://{gateway}:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
