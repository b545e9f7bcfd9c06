"""What of a lab was unreachable, and for how long: its APIs and a guest, asked again and again during a hop."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from labctl.host.namespace import Inside

#: Seconds between two questions, and until one counts as not answered.
EVERY, PATIENCE = 1.0, 3.0


@dataclass
class Gaps:
    """The times in which a target did not answer, in seconds."""

    times: list[float] = field(default_factory=list)
    _since: float = 0.0

    def saw(self, answered: bool, now: float) -> None:
        """Take one answer, or its lack, into account."""
        if answered:
            self.close(now)
        elif not self._since:
            self._since = now

    def close(self, now: float) -> None:
        """End the gap that is open."""
        if self._since:
            self.times.append(round(now - self._since, 1))
            self._since = 0.0

    @property
    def total(self) -> float:
        """All of them together."""
        return round(sum(self.times), 1)


def answers(url: str) -> bool:
    """Whether a URL answers: http with any status below 500, tcp with a connection."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        if parts.scheme == "tcp":
            socket.create_connection((host, port), PATIENCE).close()
            return True
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        try:
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status < 500
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


class Prober:
    """Asks every target until it is left; use as a context manager.

    :param targets: URLs by the names that a report has.
    """

    def __init__(self, namespace: str, hosts_file: Path, targets: Mapping[str, str]) -> None:
        self.gaps = {name: Gaps() for name in targets}
        self._targets = dict(targets)
        self._inside = Inside(namespace, hosts_file, threads=max(len(targets), 1))
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Prober:
        for name, url in self._targets.items():
            thread = threading.Thread(target=self._inside.call, args=(self._ask, name, url), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def _ask(self, name: str, url: str) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            answered = answers(url)
            self.gaps[name].saw(answered, began if not answered else time.monotonic())
            self._stop.wait(max(0.0, EVERY - (time.monotonic() - began)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        now = time.monotonic()
        for gaps in self.gaps.values():
            gaps.close(now)
        self._inside.__exit__(kind, error, trace)
