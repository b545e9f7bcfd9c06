"""The journal of a lab: its finished stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class StageRecord:
    """A finished stage: the hash of its inputs, when it finished, and how long it took (seconds)."""

    name: str
    digest: str
    finished: float
    seconds: float
    cpu_seconds: float
    changed: int
    ok: int


@dataclass
class Journal:
    """The finished stages of a lab, in order."""

    stages: list[StageRecord] = field(default_factory=list)

    def record(self, name: str) -> StageRecord | None:
        """The record of a finished stage."""
        return next((s for s in self.stages if s.name == name), None)

    def add(self, record: StageRecord, names: Sequence[str]) -> None:
        """Add a finished stage, in the order of a plan's names: stages that ran side by side end in any order."""
        self.stages.append(record)
        order = {name: position for position, name in enumerate(names)}
        self.stages.sort(key=lambda stage: order.get(stage.name, -1))

    def forget_from(self, names: tuple[str, ...]) -> None:
        """Drop the records of these stages."""
        self.stages = [s for s in self.stages if s.name not in names]
