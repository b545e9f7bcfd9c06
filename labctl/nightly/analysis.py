"""Analysis of the history: regressions and when they began, flakes, and stages whose time has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from labctl.nightly.history import GOOD, LOST, History

#: Number of newest runs that are searched for flakes and stage times.
WINDOW = 60
#: Values required on either side of a change.
SIDE = 4
#: A change is at least this part of the old value, this many seconds and this many times the usual scatter.
PART, SECONDS, SCATTER = 0.2, 2.0, 3.0


class Kind(StrEnum):
    """State of a cell, judged with the runs before."""

    GOOD = "good"
    FLAKY = "flaky"  # good in the end, after a failed attempt
    REGRESSION = "regression"  # bad, and good in an earlier run
    SUSPECT = "suspected flake"  # bad, on the same inputs with which it was good
    NEVER = "never good"
    IMPOSSIBLE = "impossible"
    OPEN = "not finished"
    LOST = "lost"  # the job that ran it ended, or left nothing: it says nothing of the cell


@dataclass(frozen=True)
class Standing:
    """A cell in a run, and since which run. ``last_good`` and ``first_bad`` are rows of :func:`timeline`."""

    cell: str
    kind: Kind
    row: dict[str, Any]
    last_good: dict[str, Any] | None = None
    first_bad: dict[str, Any] | None = None
    #: the outcome differs from that of the run before
    changed: bool = False

    @property
    def bad(self) -> bool:
        """True when it needs attention."""
        return self.kind not in (Kind.GOOD, Kind.FLAKY, Kind.OPEN)

    @property
    def first_bad_stage(self) -> str:
        """The bad stage of the first bad run."""
        return str(self.first_bad["bad_stage"]) if self.first_bad else ""

    @property
    def commits(self) -> tuple[str, str] | None:
        """Commits of the last good and the first bad run, where they are known and differ."""
        if self.last_good is None or self.first_bad is None:
            return None
        good, bad = (str(r["git_commit"]).rstrip("+") for r in (self.last_good, self.first_bad))
        return (good, bad) if good and bad and good != bad else None

    @property
    def ranges(self) -> dict[str, tuple[str, str]]:
        """The projects of repositories of their own that changed since it was good: their good and bad commits."""
        if not (self.last_good and self.first_bad):
            return {}
        good, bad = (json.loads(row["sources"]) for row in (self.last_good, self.first_bad))
        both = {project: (good[project]["commit"], bad[project]["commit"]) for project in good.keys() & bad.keys()}
        return {project: (old, new) for project, (old, new) in sorted(both.items()) if old and new and old != new}


def timeline(history: History, before: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every cell's outcomes, oldest first, up to a run: run, began, outcome, bad_stage, git_commit, inputs, seconds.

    ``git_commit`` and ``inputs`` are those of the last attempt, because a run may be resumed with other code.
    """
    query = (
        "SELECT c.id, c.name, c.run, r.began AS night, c.outcome, c.state, c.bad_stage, c.message, c.began, c.ended,"
        " c.lab, c.kept, c.definition, coalesce(nullif(a.git_commit, ''), r.git_commit) AS git_commit, a.inputs,"
        " coalesce(a.sources, '{}') AS sources,"
        " c.ended - c.began AS seconds"
        " FROM cells c JOIN runs r ON r.id = c.run"
        " LEFT JOIN attempts a ON a.cell = c.id AND NOT EXISTS"
        "  (SELECT 1 FROM attempts later WHERE later.cell = a.cell AND later.number > a.number)"
        " WHERE r.kind = 'nightly' AND c.run <= ? ORDER BY c.run, c.id"
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in history.rows(query, [before if before is not None else 2**62]):
        found.setdefault(row["name"], []).append(row)
    return found


def standing(rows: Sequence[dict[str, Any]]) -> Standing:
    """The state of a cell in the last run of its timeline."""
    row = rows[-1]
    finished = [r for r in rows if r["outcome"] not in (None, LOST)]
    changed = len(finished) > 1 and (finished[-1]["outcome"] in GOOD) != (finished[-2]["outcome"] in GOOD)
    if row["outcome"] is None:
        return Standing(row["name"], Kind.OPEN, row)
    if row["outcome"] == LOST:
        return Standing(row["name"], Kind.LOST, row, changed=len(rows) < 2 or rows[-2]["outcome"] in GOOD)
    if row["outcome"] in GOOD:
        kind = Kind.FLAKY if row["outcome"] == "flaky" else Kind.GOOD
        return Standing(row["name"], kind, row, changed=changed)
    good = max((i for i, r in enumerate(finished) if r["outcome"] in GOOD), default=-1)
    first_bad = finished[good + 1]
    last_good = finished[good] if good >= 0 else None
    if row["outcome"] == "impossible":
        kind = Kind.IMPOSSIBLE
    elif last_good is None:
        kind = Kind.NEVER
    else:
        same = last_good["inputs"] and last_good["inputs"] == row["inputs"]
        kind = Kind.SUSPECT if same else Kind.REGRESSION
    return Standing(row["name"], kind, row, last_good, first_bad, changed or len(finished) == 1)


def standings(history: History, run: int) -> list[Standing]:
    """The cells of a run; those that need attention come first."""
    found = [standing(rows) for rows in timeline(history, run).values() if rows[-1]["run"] == run]
    return sorted(found, key=lambda s: (not s.bad, s.kind is Kind.GOOD))


@dataclass(frozen=True)
class Flake:
    """A test or cell with different outcomes on equal inputs; ``test`` is empty for the cell itself."""

    cell: str
    test: str
    passed: int
    failed: int
    last_failed: int


def flakes(history: History, window: int = WINDOW) -> list[Flake]:
    """Tests and cells that passed and failed on equal inputs within the newest runs, the most frequent first."""
    newest = history.rows("SELECT coalesce(max(id), 0) AS id FROM runs")[0]["id"]
    count = (
        " sum({o} = 'passed') AS passed, sum({o} IN ('failed', 'timeout')) AS failed,"
        " max(CASE WHEN {o} IN ('failed', 'timeout') THEN c.run END) AS last_failed"
    )
    where = " JOIN cells c ON c.id = a.cell WHERE c.run > ? AND a.inputs != ''"
    of_tests = (
        "SELECT c.name AS cell, n.name AS test," + count.format(o="t.outcome") + " FROM tests t"
        " JOIN attempts a ON a.id = t.attempt JOIN test_names n ON n.id = t.test" + where + " GROUP BY 1, 2, a.inputs"
    )
    of_cells = (
        "SELECT c.name AS cell, '' AS test," + count.format(o="a.outcome") + f" FROM attempts a{where} GROUP BY 1, "
        "a.inputs"
    )
    merged: dict[tuple[str, str], Flake] = {}
    for query in (of_tests, of_cells):
        for row in history.rows(f"SELECT * FROM ({query}) WHERE passed > 0 AND failed > 0", [newest - window]):
            key = (row["cell"], row["test"])
            before = merged.get(key)
            merged[key] = Flake(
                *key,
                row["passed"] + (before.passed if before else 0),
                row["failed"] + (before.failed if before else 0),
                max(row["last_failed"], before.last_failed if before else 0),
            )
    return sorted(merged.values(), key=lambda f: (-f.failed, f.cell, f.test))


@dataclass(frozen=True)
class Change:
    """A change of level: from ``position`` on, the median of the values is ``after`` instead of ``before``."""

    position: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """The new level divided by the old one."""
        return self.after / self.before if self.before else float("inf")


def change(values: Sequence[float]) -> Change | None:
    """The last lasting change of level in a series; None when the values only scatter.

    The series is cut where the sum of the distances to the medians of both parts is least, and again in the
    newer part while that has a change of its own. A single outlier is no change: it takes SIDE of them.
    """
    best: Change | None = None
    start = 0
    while (found := _cut(values[start:])) is not None:
        start += found.position
        best = Change(start, found.before, found.after)
    return best


def _cut(values: Sequence[float]) -> Change | None:
    cuts = range(SIDE, len(values) - SIDE + 1)
    if not cuts:
        return None

    def cost(at: int) -> float:
        return sum(sum(abs(v - median(part)) for v in part) for part in (values[:at], values[at:]))

    at = min(cuts, key=cost)
    before, after = median(values[:at]), median(values[at:])
    rest = [abs(v - before) for v in values[:at]] + [abs(v - after) for v in values[at:]]
    needed = max(PART * before, SECONDS, SCATTER * median(rest))
    return Change(at, before, after) if abs(after - before) > needed else None


def stage_times(history: History, window: int | None = None) -> dict[str, dict[str, list[tuple[int, float, float]]]]:
    """Cell -> stage -> (run, seconds, CPU seconds) of every stage that passed in the last attempt, oldest first."""
    newest = history.rows("SELECT coalesce(max(id), 0) AS id FROM runs")[0]["id"]
    query = (
        "SELECT c.name, s.name AS stage, c.run, s.seconds, s.cpu_seconds FROM stages s"
        " JOIN attempts a ON a.id = s.attempt JOIN cells c ON c.id = a.cell"
        " WHERE s.outcome = 'passed' AND c.run > ? AND NOT EXISTS"
        " (SELECT 1 FROM attempts later WHERE later.cell = a.cell AND later.number > a.number)"
        " ORDER BY c.run, s.position"
    )
    found: dict[str, dict[str, list[tuple[int, float, float]]]] = {}
    for row in history.rows(query, [newest - window if window else 0]):
        stages = found.setdefault(row["name"], {})
        stages.setdefault(row["stage"], []).append((row["run"], row["seconds"], row["cpu_seconds"]))
    return found


@dataclass(frozen=True)
class Trend:
    """A stage of a cell whose time changed in a run; seconds."""

    cell: str
    stage: str
    since: int
    before: float
    after: float


def trends(times: dict[str, dict[str, list[tuple[int, float, float]]]]) -> list[Trend]:
    """Every lasting change of a stage's time in the newest runs, the largest first."""
    found = []
    for cell, stages in times.items():
        for stage, points in stages.items():
            points = points[-WINDOW:]
            if (seen := change([seconds for _, seconds, _ in points])) is not None:
                found.append(Trend(cell, stage, points[seen.position][0], seen.before, seen.after))
    return sorted(found, key=lambda t: -abs(t.after - t.before))
