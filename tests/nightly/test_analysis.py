"""What a history tells, on histories whose truth is known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.nightly import analysis
from labctl.nightly.analysis import Kind
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.testing.junit import Case


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.sqlite") as made:
        yield made


def night(
    history: History,
    outcome: str | None,
    *,
    stage: str = "",
    inputs: str = "i1",
    commit: str = "c1",
    tests: dict[str, str] | None = None,
    seconds: float = 10.0,
    name: str = "zed",
) -> int:
    """A run of one cell with one attempt."""
    run = history.begin_run([Cell(name=name, topology=name)], git_commit=commit)
    row = history.cells(run)[0]
    attempt = history.begin_attempt(row["id"], 1, commit)
    history.update_attempt(attempt, outcome=outcome, inputs=inputs, bad_stage=stage, ended=2.0)
    history.record_stage(attempt, "up/keystone", "passed", seconds, seconds / 2)
    history.record_tests(attempt, [Case(n, o, 1.0) for n, o in (tests or {}).items()])
    if outcome:
        history.update_cell(row["id"], state="done", outcome=outcome, bad_stage=stage, began=1.0, ended=2.0)
        history.end_run(run)
    return run


def test_a_regression_has_its_last_good_and_first_bad_run_and_stage(history: History) -> None:
    night(history, "failed", stage="test", commit="c0")
    night(history, "passed", commit="c1")
    night(history, "failed", stage="keystone", inputs="i2", commit="c2")
    last = night(history, "timeout", stage="test", inputs="i3", commit="c3")
    found = analysis.standings(history, last)[0]
    assert found.kind is Kind.REGRESSION
    assert (found.last_good or {})["run"] == 2
    assert (found.first_bad or {})["run"] == 3
    assert found.first_bad_stage == "keystone"
    assert found.commits == ("c1", "c2")
    assert not found.changed
    assert analysis.standings(history, 3)[0].changed


def test_a_lost_cell_is_no_regression_and_no_bound_of_one(history: History) -> None:
    night(history, "passed", inputs="i1", commit="c1")
    night(history, "lost", inputs="", commit="c2")
    night(history, "lost", inputs="", commit="c2")
    night(history, "failed", stage="test", inputs="i3", commit="c3")
    lost, again, failed = (analysis.standings(history, run)[0] for run in (2, 3, 4))
    assert (lost.kind, lost.bad, lost.changed) == (Kind.LOST, True, True)
    assert (again.kind, again.changed) == (Kind.LOST, False)
    assert (failed.kind, failed.changed, failed.commits) == (Kind.REGRESSION, True, ("c1", "c3"))


def test_a_failure_on_the_inputs_of_the_last_good_run_is_suspected_to_be_a_flake(history: History) -> None:
    night(history, "passed", inputs="same")
    last = night(history, "failed", inputs="same")
    assert analysis.standings(history, last)[0].kind is Kind.SUSPECT


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [("failed", Kind.NEVER), ("impossible", Kind.IMPOSSIBLE), ("flaky", Kind.FLAKY), (None, Kind.OPEN)],
)
def test_a_cell_without_a_past_is_what_it_is(history: History, outcome: str | None, kind: Kind) -> None:
    assert analysis.standings(history, night(history, outcome))[0].kind is kind


def test_flakes_are_outcomes_that_change_on_equal_inputs_only(history: History) -> None:
    both = {"steady": "passed", "moody": "passed", "mended": "failed"}
    night(history, "passed", inputs="i1", tests=both)
    night(history, "failed", inputs="i1", tests={**both, "moody": "failed"})
    night(history, "passed", inputs="i2", tests={**both, "mended": "passed"})
    found = {(f.cell, f.test): f for f in analysis.flakes(history)}
    assert set(found) == {("zed", "moody"), ("zed", "")}
    assert (found["zed", "moody"].passed, found["zed", "moody"].failed) == (1, 1)
    assert found["zed", "moody"].last_failed == 2


def test_flakes_of_long_ago_are_not_told(history: History) -> None:
    night(history, "passed", tests={"moody": "passed"})
    night(history, "failed", tests={"moody": "failed"})
    for _ in range(3):
        night(history, "passed", tests={"moody": "passed"})
    assert analysis.flakes(history)
    assert analysis.flakes(history, window=3) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_lasting_change_is_found_where_it_is(seed: int) -> None:
    dice = random.Random(seed)
    values = [dice.gauss(60, 3) for _ in range(30)] + [dice.gauss(90, 4) for _ in range(15)]
    found = analysis.change(values)
    assert found is not None
    assert abs(found.position - 30) <= 1
    assert found.ratio == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_scatter_and_a_single_slow_night_are_no_change(seed: int) -> None:
    dice = random.Random(seed)
    values = [dice.gauss(60, 6) for _ in range(60)]
    values[40] = 200.0
    assert analysis.change(values) is None


def test_too_few_values_tell_nothing() -> None:
    assert analysis.change([]) is None
    assert analysis.change([1, 100, 1, 100, 1, 100, 1]) is None


def test_a_stage_that_became_slow_is_told_with_the_run(history: History) -> None:
    for number in range(20):
        night(history, "passed", seconds=30.0 if number < 12 else 55.0)
    found = analysis.trends(analysis.stage_times(history))
    assert [(t.cell, t.stage, t.since, t.before, t.after) for t in found] == [("zed", "up/keystone", 13, 30.0, 55.0)]
