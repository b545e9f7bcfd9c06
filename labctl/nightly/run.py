"""A nightly run: cells in parallel as memory and cores allow, recorded as they run, resumable after a kill."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files, lock, memory
from labctl.host.threads import started
from labctl.nightly import facts
from labctl.nightly.cellrun import CellRun
from labctl.nightly.history import GOOD, LOST, History, directory
from labctl.nightly.matrix import Cell, Matrix, lab_prefix, looked_at
from labctl.nightly.model import Timeouts
from labctl.nightly.steps import Interrupted, Steps, end_stray
from labctl.progress import note, step, warn
from labctl.records.directory import exists, names
from labctl.testing import junit
from labctl.topology.units import show_size

#: Cores that a lab under test keeps busy; two labs on them take longer than two in sequence.
CORES = 2
#: Seconds to wait for interrupted cells to stop.
PATIENCE = 60


@dataclass
class Night:
    """A run in progress.

    :param free: bytes of memory that all labs together may use.
    """

    history: History
    number: int
    jobs: int
    free: int
    steps: Steps
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def again(self) -> str:
        """The command that resumes it."""
        place = self.history.path.parent
        return "labctl nightly run --resume" + ("" if place == directory() else f" --artefact {place}")

    @property
    def where(self) -> Path:
        """The directory of the run's logs and artefacts."""
        return artefacts(self.history, self.number)

    # --- running -------------------------------------------------------------------------------

    def run(self) -> list[dict[str, Any]]:
        """Run every cell that is not done, and return all cells with their outcomes.

        :raises Interrupted: it was stopped; ``--resume`` continues it.
        """
        rows = self.history.cells(self.number)
        waiting = self._in_order([row for row in rows if row["state"] != "done"])
        source, commit = facts.source(), facts.git_commit()
        outcomes = {row["id"]: row["outcome"] for row in rows if row["state"] == "done"}
        running: dict[Future[str], dict[str, Any]] = {}
        try:
            with terminated():
                while waiting or running:
                    for row in self._startable(waiting, list(running.values())):
                        waiting.remove(row)
                        cell = CellRun(self.history, row, self.where / slug(row["name"]), self.steps, source, commit)
                        running[started(cell.run)] = row
                    ready, _ = wait(running, timeout=5, return_when=FIRST_COMPLETED)
                    for future in ready:
                        row = running.pop(future)
                        outcomes[row["id"]] = future.result()
                        note("night", f"{row['name']}: {outcomes[row['id']]}")
        except (KeyboardInterrupt, Interrupted):
            self.stopping.set()
            note("night", f"interrupted; stopping {len(running)} cells")
            wait(running, timeout=PATIENCE)
            raise Interrupted(f"run {self.number} was interrupted", self.again) from None
        return [{**row, "outcome": outcomes[row["id"]]} for row in self.history.cells(self.number)]

    def _startable(self, waiting: list[dict[str, Any]], running: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The cells to start now, as jobs and memory allow; always at least one when none is running."""
        taken = sum(_cell(row).memory for row in running)
        found: list[dict[str, Any]] = []
        for row in waiting:
            if len(running) + len(found) >= self.jobs:
                break
            need = _cell(row).memory
            if taken + need <= self.free or not (running or found):
                found.append(row)
                taken += need
        return found

    def _in_order(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Interrupted cells first, then the longest: that makes the run shortest."""
        takes = self.history.durations()

        def key(row: dict[str, Any]) -> tuple[bool, float, int]:
            return (row["state"] == "waiting", -takes.get(row["name"], float("inf")), -_cell(row).memory)

        return sorted(rows, key=key)


def artefacts(history: History, run: int) -> Path:
    """The directory of a run."""
    return history.path.parent / "runs" / f"{run:04}"


def slug(name: str) -> str:
    """A cell's name as a directory name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _cell(row: dict[str, Any]) -> Cell:
    return Cell.from_json(row["definition"])


@contextmanager
def terminated() -> Iterator[None]:
    """Treat SIGTERM, as a service manager sends it, like ^C, where labctl's entry point does not."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    threaded = threading.current_thread() is not threading.main_thread()
    if threaded or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- beginning -------------------------------------------------------------------------------------


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock for nightly runs in this labctl home.

    :raises LabError: another process holds it; names it.
    """
    with lock.held(directory() / "run.lock", "", _taken):
        yield


def _taken(holder: str) -> LabError:
    return LabError(f"a nightly run is in progress: {holder or 'another process'}", "labctl nightly show")


def begin(
    history: History,
    matrix: Matrix,
    cells: Sequence[Cell],
    jobs: int | None,
    keep: bool | None,
    steps: Steps | None,
    job: str = "",
) -> Night:
    """Record a new run; clean up after unfinished runs first. The caller holds :func:`alone`.

    :param keep: overrides the file's ``keep_on_failure``.
    :param job: the id of the job of a CI system that it is.
    """
    if job:
        remove_labs_of_jobs(steps)
    for old in history.unfinished():
        note("night", f"run {old['id']} is unfinished; removing its labs (--resume would have continued it)")
        abandon(history, old["id"], steps)
    wanted = [Cell(**{**vars(c), "keep_on_failure": c.keep_on_failure if keep is None else keep}) for c in cells]
    settings = matrix.settings.model_dump_json()
    number = history.begin_run(wanted, job=job, file=str(matrix.path.resolve()), settings=settings, **facts.run_facts())
    for cell in wanted:
        if cell.impossible:
            warn("night", f"{cell.name} is impossible: {cell.impossible}")
    return _night(history, number, jobs or matrix.settings.jobs, steps)


def resume(history: History, jobs: int | None, steps: Steps | None) -> Night:
    """Resume the newest unfinished run. The caller holds :func:`alone`.

    :raises LabError: there is no unfinished run.
    """
    unfinished = history.unfinished()
    if not unfinished:
        raise LabError("there is no unfinished run to resume", "labctl nightly run")
    row = unfinished[0]
    for old in unfinished[1:]:
        abandon(history, old["id"], steps)
    cells = history.cells(row["id"])
    stop_strays(history, row["id"])
    for found in cells:
        if found["state"] != "waiting":
            continue
        now = looked_at(_cell(found))  # a medium may have been added, a topology may have been broken
        history.update_cell(found["id"], definition=now.to_json())
        if now.impossible:
            history.update_cell(
                found["id"], state="done", outcome="impossible", message=now.impossible, ended=time.time()
            )
    left = [c["name"] for c in history.cells(row["id"]) if c["state"] != "done"]
    note("night", f"resuming run {row['id']}: {', '.join(left) or 'all cells are done'}")
    if row["source"] != (source := facts.source()):
        warn("night", f"labctl has changed since the run began (code {row['source']}, now {source})")
    return _night(history, row["id"], jobs or json.loads(row["settings"]).get("jobs"), steps)


def _night(history: History, number: int, jobs: int | None, steps: Steps | None) -> Night:
    free = max(0, memory.available() - memory.RESERVE)
    stopping = threading.Event()
    made = replace(steps or Steps(stopping.is_set), stop=stopping.is_set)
    jobs = jobs or max(1, (os.cpu_count() or 1) // CORES)
    note("night", f"run {number}: {jobs} cell{'s' if jobs > 1 else ''} in parallel in {show_size(free)} of memory")
    return Night(history, number, jobs, free, made, stopping)


def stop_strays(history: History, run: int) -> None:
    """End leftover commands of a killed run."""
    query = "SELECT a.id, a.process, c.name FROM attempts a JOIN cells c ON c.id = a.cell WHERE c.run = ? AND a.process"
    for row in history.rows(query + " != '' AND a.ended IS NULL", [run]):
        if end_stray(row["process"]):
            note(row["name"], "ended a leftover command of the killed run")


def remove_labs_of_jobs(steps: Steps | None) -> None:
    """Remove the labs of jobs that were killed on this machine; their histories are elsewhere."""
    for lab in names():
        if lab.startswith(f"{lab_prefix(0)}-"):
            with step("night", f"remove {lab}, which a killed job left"):
                log = directory() / "killed-jobs.log"
                done = (steps or Steps(lambda: False)).run(["down", lab], log, Timeouts().down)
            if not done.good:
                warn("night", f"{lab} was not fully removed: labctl down {lab}")


def abandon(history: History, run: int, steps: Steps | None = None) -> None:
    """End a run that will not be resumed: its commands and its labs.

    :raises LabError: the history cannot be written.
    """
    stop_strays(history, run)
    steps = steps or Steps(lambda: False)
    for row in history.cells(run):
        if row["state"] == "done":
            continue
        if exists(row["lab"]):
            with step(row["name"], f"remove {row['lab']}"):
                log = artefacts(history, run) / slug(row["name"]) / "abandoned.log"
                done = steps.run(["down", row["lab"]], log, _cell(row).timeouts["down"])
            if not done.good:
                warn(row["name"], f"{row['lab']} was not fully removed: labctl down {row['lab']}")
        history.update_cell(
            row["id"], state="done", outcome="error", message="the run was killed and not resumed", ended=time.time()
        )
    history.end_run(run)


# --- ending ----------------------------------------------------------------------------------------


def finish(
    history: History, number: int, rows: list[dict[str, Any]], after: Sequence[Callable[[], object]] = ()
) -> bool:
    """Write a run's JUnit file and end it; return True when every cell is good.

    :param after: further steps, such as the report; their failure is a warning only.
    """
    try:
        write_junit(history, number)
    except OSError as error:
        warn("night", f"cannot write the run's JUnit file: {error.filename}: {error.strerror}")
    history.end_run(number)
    for part in after:
        try:
            part()
        except (LabError, OSError) as error:
            warn("night", str(error))
    return all(row["outcome"] in GOOD for row in rows)


def write_junit(history: History, run: int) -> Path:
    """Write the JUnit file of a run: one suite per cell, with the steps and tests of its last attempt.

    :raises OSError: the file cannot be written.
    """
    suites = []
    for row in history.cells(run):
        suites.append((row["name"], cases(history, row)))
        own = artefacts(history, run) / slug(row["name"])
        files.make_directories(own)
        junit.write(own / "junit.xml", suites[-1:])
    target = artefacts(history, run) / "junit.xml"
    junit.write(target, suites)
    return target


def cases(history: History, row: dict[str, Any]) -> list[junit.Case]:
    """The steps and the tests of a cell, as test cases."""
    attempts = history.attempts(row["id"])
    if not attempts or row["outcome"] in ("impossible", "error", LOST):
        return [junit.Case("cell", "failed", 0.0, f"{row['outcome']}: {row['message']}")]
    last = attempts[-1]["id"]
    found = []
    for stage in history.rows("SELECT * FROM stages WHERE attempt = ? ORDER BY position", [last]):
        if stage["name"] == "test":
            continue
        good = stage["outcome"] == "passed"
        message = "" if good else f"{stage['outcome']}: {attempts[-1]['message']}"
        found.append(junit.Case(stage["name"], "passed" if good else "failed", stage["seconds"], message))
    query = "SELECT n.name, t.outcome, t.seconds, t.message FROM tests t JOIN test_names n ON n.id = t.test"
    tests = [junit.Case(**t) for t in history.rows(f"{query} WHERE t.attempt = ? ORDER BY n.name", [last])]
    if attempts[-1]["bad_stage"] == "test" and not any(t.outcome == "failed" for t in tests):
        found.append(junit.Case("test", "failed", 0.0, attempts[-1]["message"]))
    return found + tests
