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
LAB = cast(Lab, SimpleNamespace(name="lab", up=lambda: "labctl up lab", context=Context.of(SPEC)))


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
        (Gnocchi(waiting=9000), "labctl ssh lab controller -- systemctl restart gnocchi-metricd"),
        # `labctl up` has run it once, and would not again
        (Gnocchi(types=()), "labctl ssh lab controller -- su -s /bin/sh -c ceilometer-upgrade ceilometer"),
    ],
    ids=["none", "backlog", "types"],
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
