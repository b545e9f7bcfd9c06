"""What is written down about a lab's upgrade."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from labctl.host import state
from labctl.records.lab import Lab
from labctl.topology.spec import LabSpec

#: The steps of a hop. Until the lab is switched, its old release goes on as it was.
STEPS = ("migrations", "health", "estate", "snapshot", "switch", "converge", "alive", "smoke")


class Place(BaseModel, frozen=True):
    """What of a lab a hop can change."""

    release: str
    base: str
    mechanism: str


def place(spec: LabSpec) -> Place:
    """Where a lab is on its way."""
    return Place(release=spec.release, base=spec.base, mechanism=spec.mechanism.value)


class HopRecord(BaseModel):
    """What one hop did: seconds by step, gaps by what was asked, and its proofs."""

    name: str
    to: Place
    title: str
    snapshot: str
    seconds: dict[str, float] = Field(default_factory=dict)
    gaps: dict[str, float] = Field(default_factory=dict)
    estate: str = ""
    smoke: str = ""

    @property
    def finished(self) -> bool:
        """Whether its last step is done."""
        return STEPS[-1] in self.seconds

    @property
    def duration(self) -> float:
        """Seconds of all steps but the smoke tests."""
        return sum(took for name, took in self.seconds.items() if name != "smoke")


class State(BaseModel):
    """An upgrade, as far as it has come; ``wanted`` are the options that say where it goes."""

    wanted: str
    hops: list[HopRecord] = Field(default_factory=list)

    @property
    def going(self) -> HopRecord | None:
        """The hop that is not finished."""
        return self.hops[-1] if self.hops and not self.hops[-1].finished else None


def directory(lab: Lab) -> Path:
    """Where an upgrade's record, estate and logs are."""
    return lab.directory / "upgrade"


def load(lab: Lab) -> State | None:
    """The record of a lab's upgrade, if there is one."""
    path = directory(lab) / "state.json"
    return state.read(path, State, f"rm {path}") if path.exists() else None
