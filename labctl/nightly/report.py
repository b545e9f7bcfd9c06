"""The report: self-contained static pages that work from the file system.

index.html        the newest run, the matrix, trends, tests, all runs
run-NNNN.html     one of the newest runs, cell by cell
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from labctl.errors import LabError
from labctl.host import files
from labctl.nightly import analysis, svg
from labctl.nightly.analysis import Kind, Standing
from labctl.nightly.history import GOOD, LOST, History
from labctl.nightly.matrix import Cell
from labctl.nightly.run import slug
from labctl.nightly.steps import tail
from labctl.topology.stages import STAGES

#: Number of runs in the matrix, each with its own page.
SHOWN = 30
#: Lines and bytes shown of the end of a log.
LINES, BYTES = 40, 6000
#: Failed tests shown per cell.
TESTS = 20
TONES = {Kind.GOOD: "good", Kind.FLAKY: "flake", Kind.SUSPECT: "flake", Kind.IMPOSSIBLE: "", Kind.OPEN: ""}


def write(history: History, target: Path, shown: int = SHOWN) -> Path:
    """Write the report into a directory and return its index page.

    :param shown: number of newest runs in the matrix, each with its own page.
    :raises LabError: the report cannot be written.
    """
    try:
        files.make_directories(target)
        report = Report(history, target, shown)
        for name, text in report.pages():
            files.write_atomic(target / name, text)
    except OSError as error:
        raise LabError(
            f"the report cannot be written: {error.filename or target}: {error.strerror}",
            "free space with labctl nightly prune, or write elsewhere: labctl nightly report DIRECTORY",
        ) from error
    return target / "index.html"


def page(run: int) -> str:
    """Name of a run's page."""
    return f"run-{run:04}.html"


def when(at: float | None) -> str:
    """A time in local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else ""


@dataclass
class Report:
    """Collects the data of the pages."""

    history: History
    target: Path
    shown: int = SHOWN

    def __post_init__(self) -> None:
        self.templates = Environment(
            loader=PackageLoader("labctl.nightly"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self.runs = self.history.rows("SELECT * FROM runs ORDER BY id DESC")
        self.recent = [run for run in self.runs if run["kind"] == "nightly"][: self.shown]
        self.timeline = analysis.timeline(self.history)
        self.tests = self._tests()

    def pages(self) -> Iterable[tuple[str, str]]:
        """Name and text of every page."""
        yield "index.html", self._index()
        for number, run in enumerate(self.recent):
            newer = page(self.recent[number - 1]["id"]) if number else ""
            older = page(self.recent[number + 1]["id"]) if number + 1 < len(self.recent) else ""
            yield page(run["id"]), self._run(run, older, newer)

    # --- pages ---------------------------------------------------------------------------------

    def _index(self) -> str:
        newest = self.recent[0] if self.recent else None
        standings = self._standings(newest["id"]) if newest else []
        bad = sum(s.bad for s in standings)
        ids = [run["id"] for run in self.recent]
        times = analysis.stage_times(self.history)
        return self.templates.get_template("index.html.j2").render(
            title="labctl nightly",
            headline=_headline(newest, standings, bad),
            subline=f"{_about(newest)}; written {when(time.time())}" if newest else "",
            now=[self._cell(s) for s in standings],
            columns=self.recent,
            matrix=[self._row(name, rows, ids) for name, rows in self.timeline.items() if self._lives(rows, ids)],
            changes=[{**vars(t), "href": page(t.since) if t.since in ids else ""} for t in analysis.trends(times)],
            charts=[c for name in times if (c := _chart(name, times[name])) and self._lives(self.timeline[name], ids)],
            flakes=analysis.flakes(self.history),
            tests=self._histories(),
            runs=self._all_runs(set(ids)),
        )

    def _lives(self, rows: Sequence[dict[str, Any]], ids: Sequence[int]) -> bool:
        return rows[-1]["run"] in ids

    def _run(self, run: dict[str, Any], older: str, newer: str) -> str:
        standings = self._standings(run["id"])
        bad = sum(s.bad for s in standings)
        return self.templates.get_template("run.html.j2").render(
            title=f"run {run['id']} of {when(run['began'])}",
            headline=_headline(run, standings, bad),
            subline=_about(run),
            cells=[self._cell(s) for s in standings],
            older=older,
            newer=newer,
        )

    def _standings(self, run: int) -> list[Standing]:
        found = []
        for rows in self.timeline.values():
            until = [row for row in rows if row["run"] <= run]
            if until and until[-1]["run"] == run:
                found.append(analysis.standing(until))
        return sorted(found, key=lambda s: (not s.bad, s.kind is Kind.GOOD))

    # --- parts ---------------------------------------------------------------------------------

    def _row(self, name: str, rows: Sequence[dict[str, Any]], ids: Sequence[int]) -> dict[str, Any]:
        by_run = {row["run"]: row for row in rows[-2 * len(ids) :]}
        boxes = []
        for run in ids:
            row = by_run.get(run)
            outcome = (row["outcome"] or "open") if row else ""
            stage = f" at {row['bad_stage']}" if row and row["bad_stage"] else ""
            said = f"run {run}, {name}: {outcome}{stage}"
            boxes.append({"outcome": outcome, "href": f"{page(run)}#{slug(name)}", "said": said} if row else None)
        return {"name": name, "boxes": boxes}

    def _cell(self, standing: Standing) -> dict[str, Any]:
        row = standing.row
        attempts = self.history.attempts(row["id"])
        last = attempts[-1] if attempts else None
        id_ = [last["id"]] if last else [0]
        good = row["outcome"] in (*GOOD, None)
        stages = "SELECT name, outcome, seconds, cpu_seconds FROM stages WHERE attempt = ? ORDER BY position"
        log, name = ("", "") if good else self._log(row, last)
        return {
            "name": row["name"],
            "anchor": slug(row["name"]),
            "kind": standing.kind.value,
            "tone": TONES.get(standing.kind, "bad"),
            "sentence": sentence(standing),
            "message": "" if good else row["message"].strip(),
            "diagnosis": last["diagnosis"] if last else "",
            "findings": self.history.rows("SELECT place, what, last FROM findings WHERE attempt = ?", id_),
            "tests": [] if good else self._failed(row, id_),
            "log": log,
            "log_name": name,
            "reproduce": "" if good else reproduce(standing),
            "stages": self.history.rows(stages, id_),
            "attempts": len(attempts),
            "files": self._files(id_),
            "versions": _versions(last),
        }

    def _failed(self, row: dict[str, Any], attempt: list[int]) -> list[dict[str, Any]]:
        query = (
            "SELECT n.name, t.message FROM tests t JOIN test_names n ON n.id = t.test"
            f" WHERE t.attempt = ? AND t.outcome = 'failed' ORDER BY n.name LIMIT {TESTS}"
        )
        found = []
        for test in self.history.rows(query, attempt):
            seen = self.tests.get(row["name"], {}).get(test["name"], [])
            strip = svg.strip([(run, o) for run, o, _ in seen if run <= row["run"]], test["name"])
            again = shlex.join(["labctl", "test", "again", "--", test["name"]])
            found.append({"name": test["name"], "message": test["message"], "history": strip, "again": again})
        return found

    def _log(self, row: dict[str, Any], attempt: dict[str, Any] | None) -> tuple[str, str]:
        """The end of the bad step's log, and its name."""
        if attempt is None:
            return "", ""
        step = "up" if row["bad_stage"] in STAGES else row["bad_stage"]
        where = self.history.path.parent / "runs" / f"{row['run']:04}" / slug(row["name"])
        path = where / f"attempt-{attempt['number']}" / f"{step}.log"
        return "\n".join(tail(path, BYTES).rstrip().splitlines()[-LINES:]), path.name

    def _files(self, attempt: list[int]) -> list[dict[str, str]]:
        found = []
        for row in self.history.rows("SELECT path FROM artefacts WHERE attempt = ? ORDER BY path", attempt):
            path = self.history.path.parent / row["path"]
            if path.exists():
                href = quote(os.path.relpath(path, self.target))
                found.append({"name": path.name, "href": href + ("/" if path.is_dir() else "")})
        return found

    def _tests(self) -> dict[str, dict[str, list[tuple[int, str, float]]]]:
        """Cell -> test -> (run, outcome, seconds) of the last attempts in the shown runs, oldest first."""
        oldest = self.recent[-1]["id"] if self.recent else 0
        query = (
            "SELECT c.name AS cell, n.name, c.run, t.outcome, t.seconds FROM cells c JOIN attempts a ON a.cell = c.id"
            " JOIN tests t ON t.attempt = a.id JOIN test_names n ON n.id = t.test WHERE c.run >= ? AND NOT EXISTS"
            " (SELECT 1 FROM attempts later WHERE later.cell = a.cell AND later.number > a.number) ORDER BY c.run"
        )
        found: dict[str, dict[str, list[tuple[int, str, float]]]] = {}
        for row in self.history.rows(query, [oldest]):
            tests = found.setdefault(row["cell"], {})
            tests.setdefault(row["name"], []).append((row["run"], row["outcome"], row["seconds"]))
        return found

    def _histories(self) -> list[dict[str, Any]]:
        found = []
        for cell, tests in self.tests.items():
            rows: list[dict[str, Any]] = [
                {
                    "name": name,
                    "strip": svg.strip([(run, outcome) for run, outcome, _ in seen], name),
                    "seconds": median(seconds for _, _, seconds in seen),
                    "failed": sum(outcome == "failed" for _, outcome, _ in seen),
                }
                for name, seen in tests.items()
            ]
            rows.sort(key=lambda r: (-r["failed"], r["name"]))
            found.append({"name": cell, "tests": rows, "failed": sum(bool(r["failed"]) for r in rows)})
        return found

    def _all_runs(self, ids: set[int]) -> list[dict[str, Any]]:
        count: dict[int, dict[str, int]] = {}
        for row in self.history.rows(
            "SELECT run, coalesce(outcome, state) AS o, count(*) AS n FROM cells GROUP BY 1, 2"
        ):
            count.setdefault(row["run"], {})[row["o"]] = row["n"]
        return [
            {
                "id": run["id"],
                "href": page(run["id"]) if run["id"] in ids else "",
                "began": when(run["began"]),
                "kind": run["kind"],
                "minutes": f"{(run['ended'] - run['began']) / 60:.1f}" if run["ended"] else "",
                "cells": ", ".join(f"{n} {outcome}" for outcome, n in sorted(count.get(run["id"], {}).items())),
                "commit": run["git_commit"][:12],
            }
            for run in self.runs
        ]


def _chart(name: str, stages: dict[str, list[tuple[int, float, float]]]) -> dict[str, Any] | None:
    series: dict[str, svg.Points] = {
        s: [(run, seconds) for run, seconds, _ in stages[s]] for s in ("up", "test") if s in stages
    }
    drawn = svg.chart(name, series)
    return {"name": name, "series": list(series), "svg": drawn} if drawn else None


def _headline(run: dict[str, Any] | None, standings: Sequence[Standing], bad: int) -> str:
    if run is None:
        return "No nightly run yet"
    new = sum(s.changed and s.bad for s in standings)
    count = f"{bad} of {len(standings)} cells need attention" if bad else f"all {len(standings)} cells are good"
    return f"Run {run['id']}: {count}{f', {new} of them new in this run' if new else ''}"


def _about(run: dict[str, Any]) -> str:
    took = f", {(run['ended'] - run['began']) / 60:.0f} min" if run["ended"] else ", not finished"
    host = json.loads(run["host"])
    machine = f", {host['cores']} cores, kernel {host['kernel']}" if host else ""
    commit = run["git_commit"][:12] or "unknown"
    return f"{when(run['began'])}{took}; labctl {run['version']}, commit {commit}{machine}"


def _versions(attempt: dict[str, Any] | None) -> str:
    if attempt is None:
        return ""
    images = ", ".join(json.loads(attempt["images"])) or "none"
    found = {project: each["commit"][:12] or each["layer"] for project, each in json.loads(attempt["sources"]).items()}
    own = "".join(f"; {project} {commit}" for project, commit in found.items())
    commit = attempt["git_commit"][:12] or "unknown"
    return f"commit {commit}{own}; images {images}; inputs {attempt['inputs'] or 'unknown'}"


def sentence(s: Standing) -> str:
    """The state of a cell in words: since when, at which stage, between which commits."""
    if not s.bad:
        took = f" in {s.row['seconds'] / 60:.1f} min" if s.row["seconds"] else ""
        if s.kind is Kind.OPEN:
            return "It is not finished: labctl nightly run --resume continues it."
        return f"It passed{took}{' after a failed attempt' if s.kind is Kind.FLAKY else ''}."
    parts = [f"It {_verb(s.row['outcome'])}" + (f" at {s.row['bad_stage']}." if s.row["bad_stage"] else ".")]
    if s.first_bad and s.last_good:
        since, good = s.first_bad, s.last_good
        parts.append(
            f"Bad since run {since['run']} ({when(since['night'])}), first at {since['bad_stage'] or 'the start'};"
        )
        parts.append(f"last good in run {good['run']} ({when(good['night'])}).")
    elif s.kind is Kind.NEVER:
        parts.append("It was never good.")
    if s.kind is Kind.SUSPECT:
        parts.append("Its inputs are unchanged since then, so it may be a flake.")
    if s.commits:
        old, new = s.commits
        parts.append(f"Between commits {old[:12]} and {new[:12]}: labctl nightly bisect {s.cell} finds which.")
    for project, (old, new) in s.ranges.items():
        place = Cell.from_json(s.row["definition"]).sources[project].rpartition("@")[0]
        search = f"labctl nightly bisect {s.cell} --source {project}={place} --good {old[:12]} --bad {new[:12]}"
        parts.append(f"{project} is between {old[:12]} and {new[:12]}: {search} finds which.")
    if s.row["kept"]:
        parts.append(f"Its lab is kept; start it with: labctl repair {s.row['lab']}")
    return " ".join(parts)


def _verb(outcome: str) -> str:
    words = {
        "timeout": "timed out",
        "error": "could not run",
        "impossible": "cannot run here",
        LOST: "was lost with its job",
    }
    return words.get(outcome, outcome)


def reproduce(s: Standing) -> str:
    """The commands that reproduce the cell by hand."""
    cell = Cell.from_json(s.row["definition"])
    commit = str(s.row["git_commit"]).rstrip("+")
    lines = [f"git checkout {commit}"] if commit else []
    if s.kind is Kind.LOST:
        return "\n".join([*lines, shlex.join(["labctl", "nightly", "run", "--cell", s.cell])])
    taken = json.loads(s.row["sources"])
    exact = {p: f"{where.rpartition('@')[0]}@{taken[p]['commit']}" for p, where in cell.sources.items() if p in taken}
    lines.append(shlex.join(["labctl", *replace(cell, sources={**cell.sources, **exact}).up("again")]))
    bad = s.row["bad_stage"]
    hops = cell.hops("again", bad)
    if bad in ("test", *hops):
        lines += [shlex.join(["labctl", *words]) for words in hops.values()]
    if bad == "test":
        lines.append(shlex.join(["labctl", *cell.test("again")]).removesuffix(" --"))
    return "\n".join([*lines, "labctl down again"])
