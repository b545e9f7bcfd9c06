"""The history of nightly runs: one SQLite file, written during the run, so that a killed run is recorded too."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files, home, paths
from labctl.nightly.matrix import Cell
from labctl.progress import warn
from labctl.testing.junit import Case

#: Its name.
FILE = "history.sqlite"
#: Version of the schema; an older file is migrated when it is opened.
SCHEMA = 4
#: Migration from version N to N+1, by N.
MIGRATIONS = {
    1: "ALTER TABLE attempts ADD COLUMN diagnosis TEXT NOT NULL DEFAULT '';",
    2: "ALTER TABLE attempts ADD COLUMN sources TEXT NOT NULL DEFAULT '{}';",
    3: (
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,"
        " began REAL NOT NULL, cells TEXT NOT NULL, files TEXT NOT NULL DEFAULT '{}');"
    ),
}
#: Seconds to wait for another writer.
BUSY = 30
GOOD = ("passed", "flaky")
#: Outcome of a cell whose job of a CI system ended before it did: nothing is known of it.
LOST = "lost"
_DURATIONS = (
    "SELECT name, avg(ended - began) AS seconds FROM cells WHERE outcome = 'passed' AND ended > began GROUP BY name"
)
#: What is copied with an attempt, besides its tests.
_PARTS = ("stages", "findings", "artefacts")


def directory() -> Path:
    """The directory of the history and the artefacts of each run."""
    return paths.home() / "nightly"


def schema_of(path: Path) -> int:
    """The version of a history's schema; 0 if it has none.

    :raises LabError: it cannot be read, or parts of it are missing.
    """
    try:
        with closing(sqlite3.connect(path, timeout=BUSY)) as db:
            whole = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
            if whole != "ok":
                raise LabError(whole)
            return int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise LabError(str(error)) from error


def known_durations() -> dict[str, float]:
    """What :meth:`History.durations` of this machine's history says; empty where there is none that can be read.

    It is only read: a listing migrates nothing.
    """
    path = directory() / FILE
    if not os.access(path, os.R_OK):
        return {}
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY)) as db:
            return dict(db.execute(_DURATIONS).fetchall())
    except sqlite3.Error as error:
        warn("nightly", f"how long cells take is not known: {path}: {error}")
        return {}


class History:
    """An open history; thread-safe.

    :raises LabError: from every method, when the file cannot be read or written; gives the reason.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open a history, creating it if needed.

        :raises LabError: a newer labctl wrote it, it is not a history, or it is not writable.
        """
        self.path = path or directory() / FILE
        self._lock = threading.RLock()
        try:
            if path is None:
                home.secure()
            files.make_directories(self.path.parent)
            self._db = sqlite3.connect(self.path, timeout=BUSY, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            with self._told():
                self._prepare()
        except OSError as error:
            raise LabError(
                f"{self.path.parent} is not writable: {error.strerror}", "the same command with sudo"
            ) from error
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _prepare(self) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > SCHEMA:
            self._db.close()
            raise LabError(
                f"{self.path} was written by a newer labctl: its schema is {found}, this labctl supports {SCHEMA}",
                f"use the newer version, or start a new history: mv {self.path} {self.path}.{found}",
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if found < SCHEMA:
            with self.writing():
                found = int(
                    self._db.execute("PRAGMA user_version").fetchone()[0]
                )  # another process may have been first
                scripts = [resources.files("labctl.nightly").joinpath("schema.sql").read_text()] if found == 0 else []
                scripts += [MIGRATIONS[n] for n in range(found, SCHEMA) if found]
                for statement in (s for script in scripts for s in _statements(script)):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- plumbing ------------------------------------------------------------------------------

    def _error(self, error: sqlite3.Error) -> LabError:
        full = "disk is full" in str(error) or "disk I/O" in str(error)
        hint = "free space: labctl nightly prune; labctl gc; then labctl nightly run --resume" if full else ""
        if "not a database" in str(error) or "malformed" in str(error):
            hint = f"start a new history: mv {self.path} {self.path}.broken"
        return LabError(f"{self.path}: {error}", hint)

    @contextmanager
    def _told(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise self._error(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: everything written inside, or nothing."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self._told():
            return [dict(row) for row in self._db.execute(query, values)]

    def _insert(self, table: str, **values: Any) -> int:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        done = self._db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))
        return int(done.lastrowid or 0)

    def _update(self, table: str, id_: int, values: Mapping[str, Any]) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        with self.writing():
            self._db.execute(f"UPDATE {table} SET {names} WHERE id = ?", [*values.values(), id_])

    # --- runs ----------------------------------------------------------------------------------

    def begin_run(self, cells: Sequence[Cell], kind: str = "nightly", job: str = "", **facts: Any) -> int:
        """Record a run and its cells as waiting; impossible ones are done. Return the run's number.

        :param job: id of the job of a CI system that the run is; empty: it is a whole night.
        """
        began = time.time()
        with self.writing():
            run = self._insert("runs", kind=kind, began=began, **facts)
            if job:
                self._insert("jobs", id=job, run=run, began=began, cells=json.dumps([cell.name for cell in cells]))
            for cell in cells:
                done = {"state": "done", "outcome": "impossible", "message": cell.impossible, "ended": time.time()}
                state: dict[str, Any] = done if cell.impossible else {"state": "waiting"}
                lab = cell.lab(0 if job else run)
                self._insert("cells", run=run, name=cell.name, definition=cell.to_json(), lab=lab, began=None, **state)
        return run

    def jobs(self, run: int | None = None) -> list[dict[str, Any]]:
        """The jobs of CI systems that a run, or any, was made of; the earliest first."""
        where, values = ("", []) if run is None else (" WHERE run = ?", [run])
        found = self.rows(f"SELECT * FROM jobs{where} ORDER BY began, id", values)
        return [{**row, "cells": json.loads(row["cells"]), "files": json.loads(row["files"])} for row in found]

    def seal_job(self, job: str, sizes: Mapping[str, int]) -> None:
        """Record the files that a job left, and the bytes of each."""
        with self.writing():
            self._db.execute("UPDATE jobs SET files = ? WHERE id = ?", [json.dumps(sizes), job])

    def end_run(self, run: int) -> None:
        """Record the end of a run, once."""
        with self.writing():
            self._db.execute("UPDATE runs SET ended = coalesce(ended, ?) WHERE id = ?", [time.time(), run])

    def unfinished(self) -> list[dict[str, Any]]:
        """Nightly runs that did not finish, the newest first."""
        return self.rows("SELECT * FROM runs WHERE ended IS NULL AND kind = 'nightly' ORDER BY id DESC")

    def run(self, number: int) -> dict[str, Any]:
        """One run.

        :raises LabError: there is no run of that number.
        """
        found = self.rows("SELECT * FROM runs WHERE id = ?", [number])
        if not found:
            last = self.rows("SELECT min(id) AS low, max(id) AS high FROM runs")[0]
            known = f"the history has runs {last['low']} to {last['high']}" if last["high"] else "the history is empty"
            raise LabError(f"there is no run {number}; {known}", "labctl nightly list")
        return found[0]

    def cells(self, run: int) -> list[dict[str, Any]]:
        """The cells of a run, in the order of the file, each with the diagnosis of its last attempt."""
        last = "SELECT diagnosis FROM attempts WHERE cell = cells.id ORDER BY number DESC LIMIT 1"
        query = f"SELECT *, coalesce(({last}), '') AS diagnosis FROM cells WHERE run = ? ORDER BY id"
        return self.rows(query, [run])

    def durations(self) -> dict[str, float]:
        """Cell -> seconds that it takes: the mean of the times it passed."""
        return {row["name"]: row["seconds"] for row in self.rows(_DURATIONS)}

    # --- cells ---------------------------------------------------------------------------------

    def update_cell(self, cell: int, **values: Any) -> None:
        """Write fields of a cell."""
        self._update("cells", cell, values)

    def begin_attempt(self, cell: int, number: int, git_commit: str) -> int:
        """Record the start of an attempt; an interrupted one of that number is resumed."""
        known = self.rows("SELECT id FROM attempts WHERE cell = ? AND number = ?", [cell, number])
        if known:
            return int(known[0]["id"])
        with self.writing():
            return self._insert("attempts", cell=cell, number=number, began=time.time(), git_commit=git_commit)

    def update_attempt(self, attempt: int, **values: Any) -> None:
        """Write fields of an attempt."""
        self._update("attempts", attempt, values)

    def attempts(self, cell: int) -> list[dict[str, Any]]:
        """The attempts of a cell, in order."""
        return self.rows("SELECT * FROM attempts WHERE cell = ? ORDER BY number", [cell])

    def record_stage(self, attempt: int, name: str, outcome: str, seconds: float, cpu_seconds: float) -> None:
        """Record a finished stage or step; one that is repeated after an interruption replaces its record."""
        with self.writing():
            self._db.execute(
                "INSERT OR REPLACE INTO stages VALUES (?, ?, coalesce("
                "(SELECT position FROM stages WHERE attempt = ?1 AND name = ?2),"
                "(SELECT count(*) FROM stages WHERE attempt = ?1)), ?, ?, ?)",
                [attempt, name, outcome, round(seconds, 3), round(cpu_seconds, 3)],
            )

    def record_tests(self, attempt: int, cases: Iterable[Case]) -> None:
        """Record the tests of an attempt."""
        with self.writing():
            for case in cases:
                self._add_test(attempt, case)

    def _add_test(self, attempt: int, case: Case) -> None:
        self._db.execute("INSERT OR IGNORE INTO test_names (name) VALUES (?)", [case.name])
        self._db.execute(
            "INSERT OR REPLACE INTO tests SELECT ?, id, ?, ?, ? FROM test_names WHERE name = ?",
            [attempt, case.outcome, round(case.seconds, 3), case.message[:4000], case.name],
        )

    def record_findings(self, attempt: int, findings: Iterable[Mapping[str, str]]) -> None:
        """Record the failed health checks of a lab: ``where``, ``what`` and ``last`` of each."""
        with self.writing():
            self._db.execute("DELETE FROM findings WHERE attempt = ?", [attempt])
            for found in findings:
                row = {"place": found["where"], "what": found["what"], "last": found["last"]}
                self._insert("findings", attempt=attempt, **row)

    def record_artefacts(self, attempt: int, kinds: Mapping[Path, str]) -> None:
        """Record files below the directory of the history, and the kind of each."""
        with self.writing():
            self._db.execute("DELETE FROM artefacts WHERE attempt = ?", [attempt])
            for path, kind in kinds.items():
                self._insert("artefacts", attempt=attempt, kind=kind, path=str(path.relative_to(self.path.parent)))

    def record_image(self, name: str, packages: Mapping[str, str]) -> None:
        """Record the packages of an image, once."""
        with self.writing():
            self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", [name, json.dumps(packages)])

    # --- merging -------------------------------------------------------------------------------

    def adopt_run(self, run: int | None, facts: Mapping[str, Any]) -> int:
        """Record a nightly run of other histories, or new facts of one that is known; return its number.

        This and the other adoptions belong into one block of :meth:`writing`.
        """
        if run is None:
            return self._insert("runs", kind="nightly", **facts)
        changes = ", ".join(f"{name} = ?" for name in facts)
        self._db.execute(f"UPDATE runs SET {changes} WHERE id = ?", [*facts.values(), run])
        return run

    def adopt_job(self, run: int, job: Mapping[str, Any]) -> None:
        """Record that a run has the cells of a job."""
        self._insert("jobs", id=job["id"], run=run, began=job["began"], cells=json.dumps(job["cells"]))

    def adopt_cell(self, run: int, cell: Mapping[str, Any]) -> int:
        """Record a cell of another history, in place of what the run has of that name; return its id."""
        values = {name: value for name, value in cell.items() if name != "id"} | {"run": run}
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        changes = ", ".join(f"{name} = excluded.{name}" for name in values)
        query = f"INSERT INTO cells ({names}) VALUES ({marks}) ON CONFLICT (run, name) DO UPDATE SET {changes}"
        id_ = int(self._db.execute(f"{query} RETURNING id", list(values.values())).fetchone()[0])
        self._db.execute("DELETE FROM attempts WHERE cell = ?", [id_])
        return id_

    def adopt_attempts(self, cell: int, other: History, others: int, moved: Callable[[str], str]) -> None:
        """Copy the attempts at a cell of another history with their stages, tests, findings and files.

        :param others: the cell there.
        :param moved: where a file is now, relative to this history's directory.
        """
        for attempt in other.attempts(others):
            own = self._insert("attempts", **{**attempt, "id": None, "cell": cell, "process": ""})
            query = "SELECT n.name, t.outcome, t.seconds, t.message FROM tests t JOIN test_names n ON n.id = t.test"
            for test in other.rows(f"{query} WHERE t.attempt = ?", [attempt["id"]]):
                self._add_test(own, Case(**test))
            for table in _PARTS:
                for row in other.rows(f"SELECT * FROM {table} WHERE attempt = ?", [attempt["id"]]):
                    place = {"path": moved(row["path"])} if "path" in row else {}
                    self._insert(table, **{**row, "attempt": own, **place})
        for image in other.rows("SELECT * FROM images"):
            self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", list(image.values()))

    # --- the rest ------------------------------------------------------------------------------

    def begin_bisection(self, **values: Any) -> int:
        """Record the start of a bisection."""
        with self.writing():
            return self._insert("bisections", began=time.time(), **values)

    def update_bisection(self, number: int, **values: Any) -> None:
        """Write fields of a bisection."""
        self._update("bisections", number, values)

    def delete_runs(self, numbers: Iterable[int]) -> None:
        """Delete runs and everything that belongs to them."""
        with self.writing():
            self._db.executemany("DELETE FROM runs WHERE id = ?", [[n] for n in numbers])

    def mark_pruned(self, run: int) -> None:
        """Record that the artefacts of a run were removed."""
        self._update("runs", run, {"pruned": 1})


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would commit in between."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
