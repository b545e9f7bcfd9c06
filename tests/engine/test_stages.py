"""Stages run when what they need is finished, and not before."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support import ROOT, specify

from labctl.engine.stages import Meter, execute, needs
from labctl.errors import LabError
from labctl.plan.planner import NEEDS, Stage, plan
from labctl.records.journal import Journal, StageRecord
from labctl.services.base import Context

FIRST, LEFT, RIGHT, LAST = STAGES = (
    Stage("first"),
    Stage("left"),
    Stage("right", needs=("first",)),
    Stage("last", needs=("left", "right")),
)
#: Seconds after which a thread that waits for another fails the test.
LONG = 30


class Runs:
    """What began and finished, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.finished: list[str] = []
        self.waits: dict[str, threading.Event] = {}
        self.fails: set[str] = set()

    def run(self, stage: Stage) -> list[str]:
        self.told.append(f"begin {stage.name}")
        if stage.name in self.waits:
            assert self.waits[stage.name].wait(LONG)
        if stage.name in self.fails:
            raise LabError(f"{stage.name} failed")
        self.told.append(f"end {stage.name}")
        return ["changed", "ok", "ok"]

    def end(self, record: StageRecord) -> None:
        self.finished.append(record.name)
        if record.name in self.waits:
            return
        for event in self.waits.values():
            if record.name == "right":
                event.set()

    def go(self, due: tuple[Stage, ...] = STAGES, *, alone: bool = False) -> None:
        execute(STAGES, due, self.run, self.end, lambda: 0.0, alone=alone)


def test_a_stage_needs_the_one_before_it_unless_it_says_otherwise() -> None:
    assert [needs(STAGES, stage) for stage in STAGES] == [(), ("first",), ("first",), ("left", "right")]


def test_stages_that_need_the_same_run_side_by_side() -> None:
    runs = Runs()
    runs.waits["left"] = threading.Event()  # set only when right has finished
    runs.go()
    assert runs.finished == ["first", "right", "left", "last"]


def test_alone_they_run_one_after_another() -> None:
    runs = Runs()
    runs.go(alone=True)
    assert runs.told == [f"{what} {stage.name}" for stage in STAGES for what in ("begin", "end")]


def test_what_is_not_due_is_finished() -> None:
    runs = Runs()
    runs.go((LAST,))
    assert runs.told == ["begin last", "end last"]


def test_after_a_failure_what_runs_is_finished_and_nothing_begins() -> None:
    runs = Runs()
    runs.fails.add("left")
    with pytest.raises(LabError, match="left failed"):
        runs.go()
    assert runs.finished == ["first", "right"]
    assert "begin last" not in runs.told


def test_both_failures_are_told() -> None:
    runs = Runs()
    runs.fails |= {"left", "right"}
    with pytest.raises(LabError) as raised:
        runs.go()
    assert {"left failed", "right failed"} <= set(raised.value.message.splitlines())


def test_processor_time_is_shared_among_what_runs() -> None:
    count = iter((0.0, 1.0, 3.0, 7.0, 8.0))
    meter = Meter(lambda: next(count))
    meter.begin("one")  # at 1
    meter.begin("two")  # at 3: two seconds were one's
    assert meter.end("one") == 2 + 2  # at 7
    assert meter.end("two") == 2 + 1  # at 8


def test_a_journal_has_its_stages_in_the_order_of_the_plan() -> None:
    journal = Journal([StageRecord("machines", "", 0, 0, 0, 0, 0)])
    for name in ("first", "right", "left"):
        journal.add(StageRecord(name, "", 0, 0, 0, 0, 0), [s.name for s in STAGES])
    assert [s.name for s in journal.stages] == ["machines", "first", "left", "right"]


@pytest.mark.parametrize("topology", ["zed-2node", "ussuri-6node", "gazpacho-2node", "zed-telemetry"])
def test_every_stage_that_is_needed_comes_before(topology: str) -> None:
    stages = plan(Context.of(specify(ROOT / "topologies" / f"{topology}.yaml"))).stages
    assert any(stage.needs for stage in stages)
    for position, stage in enumerate(stages):
        assert set(needs(stages, stage)) <= {s.name for s in stages[:position]}
    reached = {"verify"}
    for stage in reversed(stages):
        if stage.name in reached:
            reached |= set(needs(stages, stage))
    assert reached == {s.name for s in stages}, "verify needs every stage"


def test_stages_of_documented_bases_wait_for_each_other() -> None:
    path: Path = ROOT / "topologies/train-2node.yaml"
    stages = plan(Context.of(specify(path, base="centos7"))).stages
    assert {stage.needs for stage in stages} == {None}
    assert NEEDS["databases"] == ("sql", "configure")
