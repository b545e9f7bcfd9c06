"""The frozen model of ``nightly.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from labctl.topology.model import Frozen
from labctl.topology.units import parse_time

#: Seconds; written as ``45 min``, ``2 h``, ``90 s``.
Time = Annotated[int, BeforeValidator(parse_time)]


class Timeouts(Frozen):
    """How long each step of a cell may take."""

    up: Time = Field(3600, description="labctl up, including an image build when needed")
    test: Time = Field(3600, description="the end-to-end suite")
    upgrade: Time = Field(3600, description="one hop of an upgrade, with its smoke tests")
    down: Time = Field(600, description="labctl down")


class Tests(Frozen):
    """Which end-to-end tests run."""

    select: tuple[str, ...] = Field((), description="files or test ids below e2e/; all when empty")
    keyword: str = Field("", description="pytest's -k")
    smoke: bool = Field(False, description="only one path through each service")
    workers: int = Field(4, ge=1, le=32, description="pytest-xdist workers")


class Excluded(Frozen):
    """Combinations of an entry to exclude; an omitted field matches all."""

    release: str | None = None
    base: str | None = None
    driver: str | None = None


class Followed(Frozen):
    """A repository whose newest commit of a branch each night takes."""

    git: str = Field(description="URL, or a directory relative to this file")
    ref: str = Field(description="branch, tag or commit")


class Settings(Frozen):
    """Settings for all cells, or for those of one entry."""

    timeouts: Timeouts | None = None
    retries: int | None = Field(None, ge=0, le=5, description="attempts after the first failure")
    tests: Tests | None = None
    keep_on_failure: bool | None = Field(
        None, description="snapshot the lab of a failure and leave it stopped, instead of removing it"
    )


class Entry(Settings):
    """One topology, and the releases, bases and drivers to test it with: every combination is a cell."""

    topology: str = Field(description="name of a known topology, or a file's path relative to this file")
    releases: tuple[str, ...] = Field((), description="the topology's own when empty")
    bases: tuple[str, ...] = Field((), description="the topology's first possible one when empty")
    drivers: tuple[str, ...] = Field((), description="the topology's first when empty")
    exclude: tuple[Excluded, ...] = ()
    join: bool = Field(False, description="add the nodes with `join: later` to the lab before the tests")
    upgrade: tuple[str, ...] = Field(
        (), description="bring the lab to these releases, one after another, before the tests (docs/upgrades.md)"
    )

    sources: Mapping[str, Followed] = Field(
        default_factory=dict, description="project to its own repository (docs/develop-openstack.md)"
    )


class Retention(Frozen):
    """What `labctl nightly prune` keeps."""

    runs: int = Field(100, ge=1, description="runs whose logs and artefacts are kept; outcomes and times stay")
    labs: int = Field(2, ge=0, description="newest labs of failures to keep")


class NotifyOn(StrEnum):
    """When the hook is called."""

    ALWAYS = "always"
    FAILURE = "failure"
    CHANGE = "change"  # the state of a cell differs from the run before


class Notify(Frozen):
    """A command that runs at the end of a run: JSON on its standard input, LABCTL_NIGHTLY_* in its environment."""

    command: tuple[str, ...] = Field(min_length=1)
    on: NotifyOn = NotifyOn.CHANGE
    timeout: Time = 60


class Nightly(Settings):
    """The whole file."""

    matrix: tuple[Entry, ...] = Field(min_length=1)
    jobs: int | None = Field(
        None, ge=1, le=64, description="cells in parallel; by default one per two cores, as memory allows"
    )
    retention: Retention = Retention()
    notify: Notify | None = None
