"""What a user writes in ``nightly.yaml``: the frozen model of the file."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from labctl.topology.model import Frozen
from labctl.topology.units import parse_time

#: Seconds; written as ``45 min``, ``2 h``, ``90 s``.
Time = Annotated[int, BeforeValidator(parse_time)]


class Timeouts(Frozen):
    """How long each step of a cell may take."""

    up: Time = Field(3600, description="labctl up, with the building of its image where there is none")
    test: Time = Field(3600, description="the end-to-end suite")
    down: Time = Field(600, description="labctl down")


class Tests(Frozen):
    """What of the end-to-end suite is run."""

    select: tuple[str, ...] = Field((), description="files or test ids below e2e/; all when empty")
    keyword: str = Field("", description="pytest's -k")
    workers: int = Field(4, ge=1, le=32, description="pytest-xdist workers")


class Excluded(Frozen):
    """Combinations of an entry that are not wanted; what is not given fits all."""

    release: str | None = None
    base: str | None = None
    driver: str | None = None


class Settings(Frozen):
    """What can be said for all cells and for those of one entry."""

    timeouts: Timeouts | None = None
    retries: int | None = Field(None, ge=0, le=5, description="attempts after the first that failed")
    tests: Tests | None = None
    keep_on_failure: bool | None = Field(
        None, description="snapshot the lab of a failure and leave it, its machines stopped, instead of removing it"
    )


class Entry(Settings):
    """One topology, and the releases, bases and drivers it is proven with: every combination is a cell."""

    topology: str = Field(description="name of a known topology, or a file's path relative to this file")
    releases: tuple[str, ...] = Field((), description="the topology's own when empty")
    bases: tuple[str, ...] = Field((), description="the topology's first that is possible when empty")
    drivers: tuple[str, ...] = Field((), description="the topology's first when empty")
    exclude: tuple[Excluded, ...] = ()
    join: bool = Field(False, description="bring the nodes with `join: later` into the lab before it is tested")


class Retention(Frozen):
    """What `labctl nightly prune` leaves."""

    runs: int = Field(100, ge=1, description="runs whose logs and artefacts are kept; outcomes and times stay")
    labs: int = Field(2, ge=0, description="labs of failures that are kept, the newest")


class NotifyOn(StrEnum):
    """When the hook is called."""

    ALWAYS = "always"
    FAILURE = "failure"
    CHANGE = "change"  # a cell is in another state than in the run before


class Notify(Frozen):
    """A command that is told of a run's end: JSON on its standard input, LABCTL_NIGHTLY_* in its environment."""

    command: tuple[str, ...] = Field(min_length=1)
    on: NotifyOn = NotifyOn.CHANGE
    timeout: Time = 60


class Nightly(Settings):
    """The whole file."""

    matrix: tuple[Entry, ...] = Field(min_length=1)
    jobs: int | None = Field(
        None, ge=1, le=64, description="cells at once; one for every two cores when not given, as memory allows"
    )
    retention: Retention = Retention()
    notify: Notify | None = None
