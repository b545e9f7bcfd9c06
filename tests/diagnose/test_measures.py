"""What a diagnosis asks about telemetry, and what it makes of the answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from support import ROOT, specify

from labctl.diagnose import apis
from labctl.diagnose.model import Level
from labctl.engine.cloud import Cloud
from labctl.operations.openstack import ArchivePolicy, MeasuresArrive
from labctl.records.lab import Lab
from labctl.services.base import Context

POLICY = ArchivePolicy("lab", ("mean", "rate:mean"), 30, 86400)
MEASURE = MeasuresArrive("cirros", "image.size", 30)
SPEC = specify(ROOT / "topologies" / "zed-telemetry.yaml")


class Node:
    """A session to a node that started so many seconds ago."""

    def __init__(self, uptime: str) -> None:
        self.uptime = uptime

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, command: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(stdout=f"   {self.uptime}\n")


def lab(uptime: str = "5000") -> Lab:
    up = {"up": lambda: "labctl up lab", "connect": lambda node: Node(uptime)}
    return cast(Lab, SimpleNamespace(name="lab", context=Context.of(SPEC), **up))


LAB = lab()


class Gnocchi:
    """Answers of a metric API in which nothing is wrong, unless told otherwise."""

    def __init__(self, *, waiting: int = 0, age: float | None = 20, types: tuple[str, ...] = ("instance",)) -> None:
        self.waiting, self.age, self.types = waiting, age, types
        self.policies: list[dict[str, Any]] = [{"name": "lab", "aggregation_methods": ["mean", "rate:mean"]}]

    def hurry(self, seconds: float) -> None:
        assert seconds > 0

    def rows(self, service: str, path: str) -> list[Any]:
        assert service == "metric"
        return self.policies if path == "/v1/archive_policy" else [{"name": name} for name in self.types]

    def get(self, service: str, path: str) -> dict[str, Any]:
        assert path.startswith("/v1/status")
        return {"storage": {"summary": {"measures": self.waiting, "metrics": 1}}}

    def measured(self, wanted: MeasuresArrive) -> float | None:
        return self.age


def found(gnocchi: Gnocchi) -> list[tuple[str, str]]:
    findings = apis.ask(LAB, cast(Cloud, gnocchi), (POLICY, MEASURE))
    assert all(finding.level > Level.IDENTITY for finding in findings)
    return [(finding.row.id, finding.found) for finding in findings]


def test_telemetry_that_measures_has_no_finding() -> None:
    assert found(Gnocchi()) == []


@pytest.mark.parametrize(
    ("gnocchi", "row", "text"),
    [
        (Gnocchi(age=None), "L12", "no measure of image.size"),
        (Gnocchi(age=600), "L12", "the newest measure of image.size is 600 s old; agents measure every 30 s"),
        (Gnocchi(waiting=9000), "L13", "9000 measures wait for metricd"),
        (Gnocchi(types=("generic",)), "L14", "gnocchi has no resource type instance"),
    ],
    ids=["none", "old", "backlog", "types"],
)
def test_what_keeps_measures_away_is_named(gnocchi: Gnocchi, row: str, text: str) -> None:
    assert found(gnocchi) == [(row, text)]


@pytest.mark.parametrize(
    ("gnocchi", "fix"),
    [
        (Gnocchi(age=None), "labctl logs lab ceilometer"),
        # it runs without a publisher that it could not load at its start
        (Gnocchi(age=600), "labctl ssh lab controller -- systemctl restart ceilometer-agent-notification"),
        (Gnocchi(waiting=9000), "labctl ssh lab controller -- systemctl restart gnocchi-metricd"),
        # `labctl up` has run it once, and would not again
        (Gnocchi(types=()), "labctl ssh lab controller -- su -s /bin/sh -c ceilometer-upgrade ceilometer"),
    ],
    ids=["none", "old", "backlog", "types"],
)
def test_the_next_command_is_one_that_does_something(gnocchi: Gnocchi, fix: str) -> None:
    (finding,) = apis.ask(LAB, cast(Cloud, gnocchi), (MEASURE,))
    assert finding.fix == fix


def test_an_archive_policy_without_rates_or_none_is_named() -> None:
    gnocchi = Gnocchi()
    gnocchi.policies[0]["aggregation_methods"] = ["mean"]
    assert found(gnocchi) == [("L5", "the archive policy lab lacks rate:mean")]
    gnocchi.policies = []
    (finding,) = apis.ask(LAB, cast(Cloud, gnocchi), (POLICY,))
    assert finding.found == "no archive policy lab"
    assert finding.mend is not None
    assert finding.mend.api == (POLICY,)


@pytest.mark.parametrize(("uptime", "rows"), [("60", []), ("5000", ["L12"]), ("no such process", ["L12"])])
def test_a_lab_that_has_just_started_has_no_newer_measures_yet(uptime: str, rows: list[str]) -> None:
    findings = apis.ask(lab(uptime), cast(Cloud, Gnocchi(age=600)), (MEASURE,))
    assert [finding.row.id for finding in findings] == rows
