"""Make one run of a night whose cells ran in jobs of a CI system, from what the jobs left."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files
from labctl.nightly import artefact, facts
from labctl.nightly import matrix as matrices
from labctl.nightly.artefact import Artefact
from labctl.nightly.history import LOST, History
from labctl.nightly.matrix import Cell
from labctl.nightly.model import Nightly
from labctl.nightly.run import artefacts, slug
from labctl.progress import note, step

#: What the jobs of a night have in common, and how to say so.
_COMMON: dict[str, Callable[[Any], str]] = {
    "git_commit": lambda commit: f"commit {commit or 'unknown'}",
    "version": lambda version: f"labctl {version}",
    "source": lambda source: f"code {source}",
    "settings": lambda settings: f"matrix {hashlib.sha256(settings.encode()).hexdigest()[:12]}",
}


@dataclass(frozen=True)
class Merged:
    """A run that was made. ``changed`` is false when the history had all of it."""

    run: int
    changed: bool


def merge(history: History, places: Sequence[Path], expected: Sequence[str]) -> Merged:
    """Record the cells of artefacts as one run: a new one, or the one that has some of these jobs already.

    :param places: artefacts, or directories of them.
    :param expected: names of the cells that ran; those that no artefact has are lost.
    :raises LabError: artefacts cannot be read or do not fit together; names each. The history is unchanged.
    """
    found = artefact.found(list(places))
    if not (found or expected):
        raise LabError(f"there is no artefact in {', '.join(map(str, places))}")
    with ExitStack() as stack:
        scratch = stack.enter_context(files.temporary())
        with step("night", f"read {len(found)} artefact{'' if len(found) == 1 else 's'}"):
            jobs = _read(found, scratch, stack)
            _check(jobs, expected)
        return _Merge(history, jobs, expected).run()


def _read(places: Sequence[Path], scratch: Path, stack: ExitStack) -> list[Artefact]:
    """The artefacts, each once.

    :raises LabError: some cannot be read; names all of them.
    """
    made: dict[str, Artefact] = {}
    problems = []
    for place in places:
        try:
            one = artefact.read(place, scratch)
        except LabError as error:
            problems.append(error.message)
            continue
        stack.enter_context(one.history)
        if one.id in made:
            note("night", f"{place} is the artefact in {made[one.id].place}, which counts once")
        made.setdefault(one.id, one)
    _raise(problems)
    return list(made.values())


def _check(jobs: Sequence[Artefact], expected: Sequence[str]) -> None:
    """Raise an error when artefacts are not of one night."""
    problems = []
    seen: dict[str, Artefact] = {}
    for job in jobs:
        for name in job.cells:
            if (other := seen.setdefault(name, job)) is not job:
                problems.append(f"{other.place} and {job.place} both have the cell {name}")
        if expected and (strange := sorted(set(job.cells) - set(expected))):
            problems.append(f"{job.place} is of another matrix: {', '.join(strange)} was not expected")
        for key, say in _COMMON.items():
            if job.run[key] != jobs[0].run[key]:
                problems.append(f"{job.place} is of {say(job.run[key])}; {jobs[0].place} of {say(jobs[0].run[key])}")
                break
    _raise(problems)


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise LabError(
            "the artefacts are not merged:\n" + "\n".join(problems),
            "labctl nightly merge DIRECTORY, with those of one night",
        )


class _Merge:
    """Brings artefacts into a history."""

    def __init__(self, history: History, jobs: Sequence[Artefact], expected: Sequence[str]) -> None:
        self.history, self.jobs, self.expected = history, jobs, expected
        known = {row["id"]: row["run"] for row in history.jobs()}
        runs = {known[job.id]: job for job in jobs if job.id in known}
        if len(runs) > 1:
            _raise([f"{job.place} is in run {run} already" for run, job in sorted(runs.items())])
        self.number: int | None = next(iter(runs), None)
        self.new = [job for job in jobs if job.id not in known]

    def run(self) -> Merged:
        """Record what the history does not have."""
        cells = self._cells()
        lost = self._lost(cells)
        if self.number is not None and not (self.new or cells or lost):
            note("night", f"run {self.number} has all of these artefacts already")
        else:
            with step("night", f"record {len(cells) + len(lost)} cells"):
                self._record(cells, lost)
        assert self.number is not None
        self._copy(self.number)
        return Merged(self.number, bool(cells or lost))

    def _cells(self) -> dict[str, Artefact]:
        """The new cells by name: of new jobs, and of those that were resumed since they were lost.

        Of two jobs that ran a cell, the later one counts.
        """
        run = self.number
        before = self.history.jobs(run) if run is not None else []
        began = {name: job["began"] for job in before for name in job["cells"]}
        lost = {row["name"] for row in self.history.cells(run) if row["outcome"] == LOST} if run is not None else set()
        return {
            name: job
            for job in self.jobs
            for name, cell in job.cells.items()
            if began.get(name, 0) <= job.began and (job in self.new or (name in lost and cell["state"] == "done"))
        }

    def _lost(self, cells: Mapping[str, Artefact]) -> list[str]:
        there = {row["name"] for row in self.history.cells(self.number)} if self.number is not None else set()
        return [name for name in self.expected if name not in cells and name not in there]

    def _record(self, cells: Mapping[str, Artefact], lost: Sequence[str]) -> None:
        order = {name: number for number, name in enumerate(self._names())}
        with self.history.writing():
            self.number = run = self.history.adopt_run(self.number, self._facts())
            for job in self.new:
                self.history.adopt_job(run, job.job)
            for name in sorted([*cells, *lost], key=lambda name: order.get(name, len(order))):
                if name in lost:
                    self.history.adopt_cell(run, _missing(name))
                else:
                    self._adopt(run, cells[name], name)

    def _adopt(self, run: int, job: Artefact, name: str) -> None:
        """Record one cell of a job."""
        cell = job.cells[name]
        row = self.history.adopt_cell(run, _ended(cell))
        self.history.adopt_attempts(row, job.history, cell["id"], lambda path: f"runs/{run:04}/{job.inside(path)}")
        self._clear(run, name)

    def _names(self) -> list[str]:
        """The cells in the file's order."""
        if not self.jobs:
            return list(self.expected)
        return matrices.names(Nightly.model_validate_json(self.jobs[0].run["settings"]))

    def _facts(self) -> Mapping[str, Any]:
        """The columns of the run: from its first job to its last one, on the least of their machines."""
        if not self.jobs:
            return _facts_of_none()
        rows = [job.run for job in self.jobs] + ([self.history.run(self.number)] if self.number is not None else [])
        ends = [float(row["ended"] or row["began"]) for row in rows]
        made = {key: rows[0][key] for key in ("file", *_COMMON)}
        host = json.dumps(_least([json.loads(row["host"]) for row in rows]))
        return {**made, "began": min(row["began"] for row in rows), "ended": max(ends), "host": host}

    def _clear(self, run: int, name: str) -> None:
        """Remove the files of a cell that is replaced."""
        where = artefacts(self.history, run)
        if left := files.remove(where / slug(name), within=where.parent):
            raise LabError(f"the files of {name} cannot be replaced: {'; '.join(left)}", "labctl nightly prune")

    def _copy(self, run: int) -> None:
        """Copy the files that are missing; a merge that was killed is completed by the next one."""
        if self.history.run(run)["pruned"]:
            return
        kept = {name: job["id"] for job in self.history.jobs(run) for name in job["cells"]}
        where = artefacts(self.history, run)
        for job in self.jobs:
            for name in job.cells:
                wanted = job.files(name) if kept.get(name) == job.id else {}
                for path, source in wanted.items():
                    if not (where / path).exists():
                        files.make_directories((where / path).parent)
                        files.copy(source, where / path)


def _facts_of_none() -> Mapping[str, Any]:
    """The columns of a run of which nothing is left but its expected cells."""
    found = matrices.load(matrices.find(None))
    run = facts.run_facts() | dict.fromkeys(("began", "ended"), time.time())
    return {**run, "file": str(found.path.resolve()), "settings": found.settings.model_dump_json()}


def _ended(row: Mapping[str, Any]) -> dict[str, Any]:
    """A cell of a job; lost when the job ended before it."""
    if row["state"] == "done":
        return dict(row)
    when = f"during {row['step']}" if row["step"] else "before it began"
    lost = {"state": "done", "outcome": LOST, "bad_stage": row["step"], "kept": 0}
    return {**row, **lost, "message": f"its job ended {when}"}


def _missing(name: str) -> dict[str, Any]:
    """A cell of which no artefact has anything."""
    cell = Cell(name=name, topology=name.partition("/")[0])
    known = {"name": name, "definition": cell.to_json(), "lab": cell.lab(0)}
    return {**known, "state": "done", "outcome": LOST, "message": "its job left no artefact"}


def _least(hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts of several machines as one: the least number, every text."""
    made: dict[str, Any] = {}
    for key in dict.fromkeys(key for host in hosts for key in host):
        values = [host[key] for host in hosts if key in host]
        if all(isinstance(value, int | float) for value in values):
            made[key] = min(values)
        else:
            texts = dict.fromkeys(text for value in values for text in str(value).split(", "))
            made[key] = ", ".join(sorted(texts))
    return made
