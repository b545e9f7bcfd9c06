"""APIs of a lab for tests of what uses the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from labctl.engine import cloud
from labctl.errors import LabError
from labctl.images.guest import GuestImage
from labctl.records.lab import Lab

T = TypeVar("T")


class Apis:
    """Stands for all APIs of a lab: remembers what was asked, changes each thing once, fails when told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure = ""
        self.inside = False
        self.guests: list[GuestImage | None] = []

    @classmethod
    def instead(cls, monkeypatch: pytest.MonkeyPatch) -> Apis:
        """Put one in place of the engine's connection to a lab's APIs."""
        made = cls()
        monkeypatch.setattr(cloud, "Cloud", made.cloud)
        monkeypatch.setattr(cloud.namespace, "Inside", made.enter)
        return made

    def cloud(self, lab: Lab, secrets: Any, guest: GuestImage | None) -> Apis:
        assert self.inside, "the APIs were used from outside the lab's namespace"
        assert secrets["ADMIN_PASS"].reveal()
        self.guests.append(guest)
        return self

    def run(self, operation: Any) -> bool:
        if self.failure and self.failure in operation.title:
            raise LabError(f"{operation.title}: HTTP 503", "labctl status small")
        self.asked.append(operation.title)
        return self.asked.count(operation.title) == 1

    def enter(self, namespace: str, hosts_file: Path) -> Apis:
        return self

    def __enter__(self) -> Apis:
        self.inside = True
        return self

    def __exit__(self, *_: object) -> None:
        self.inside = False

    def call(self, function: Callable[[], T]) -> T:
        return function()
