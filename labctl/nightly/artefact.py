"""What a job of a CI system leaves: a directory with a history of its one run, and that run's files.

    history.sqlite      the run, written as it runs, so that a killed job's is there too
    runs/0001/CELL/     logs, JUnit files, bundles
    report/index.html   the job's own report

Paths in it are relative to it. It is read from a copy of its history, so reading changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files
from labctl.nightly.cellrun import kinds_of
from labctl.nightly.history import FILE, SCHEMA, History, schema_of
from labctl.nightly.run import artefacts, slug

#: Beside the history: what was written last, until the file is closed.
_LOG = f"{FILE}-wal"


def opened(place: Path, *, resume: bool = False) -> History:
    """The history of a job, in a directory that is new or empty, or has one already.

    :param resume: it has to have one.
    :raises LabError: there is something else, or it is not writable.
    """
    if resume and not (place / FILE).is_file():
        raise LabError(f"{place} has no run to resume", f"labctl nightly run --artefact {place}")
    there = place.is_dir() and any(place.iterdir())
    if (place.exists() and not place.is_dir()) or (there and not (place / FILE).is_file()):
        raise LabError(f"{place} is not an empty directory", f"labctl nightly run --artefact {place}-2")
    return History(place / FILE)


def new_job(history: History) -> str:
    """The id of the only job of a history; no other job has it.

    :raises LabError: the history has one.
    """
    if history.rows("SELECT id FROM runs"):
        place = history.path.parent
        hint = f"labctl nightly run --resume --artefact {place}, or name another directory"
        raise LabError(f"{place} is the artefact of another job already", hint)
    return uuid.uuid4().hex


def seal(history: History, run: int) -> None:
    """Record the files of a job that is done, so that whoever reads its artefact knows what has to be there."""
    root = history.path.parent
    sizes = {str(path.relative_to(root)): path.stat().st_size for path in _plain(artefacts(history, run), root)}
    for job in history.jobs(run):
        history.seal_job(job["id"], sizes)


def _plain(where: Path, root: Path) -> list[Path]:
    """The files below a directory; no links, and nothing that a link brings in from outside of root."""
    own = root.resolve()
    found = (path for path in where.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.resolve().is_relative_to(own))


@dataclass(frozen=True)
class Artefact:
    """An artefact that was read. ``cells`` are its rows by name, ``run`` and ``job`` those of its run and job."""

    place: Path
    history: History
    run: Mapping[str, Any]
    job: Mapping[str, Any]
    cells: Mapping[str, Mapping[str, Any]]

    @property
    def id(self) -> str:
        """The job's id."""
        return str(self.job["id"])

    @property
    def began(self) -> float:
        """When the job began, in seconds since the epoch."""
        return float(self.job["began"])

    @property
    def _runs(self) -> str:
        return f"runs/{self.run['id']:04}/"

    def files(self, cell: str) -> dict[str, Path]:
        """The files of a cell, by their paths in the directory of a run."""
        root = self.place / self._runs
        return {str(path.relative_to(root)): path for path in _plain(root / slug(cell), self.place)}

    def inside(self, path: str) -> str:
        """A path that its history has, in the directory of a run.

        :raises LabError: it is outside of it.
        """
        if not path.startswith(self._runs) or ".." in Path(path).parts:
            raise LabError(f"{self.place}: its history names a file outside of {self._runs}: {path}")
        return path.removeprefix(self._runs)


def found(places: list[Path]) -> list[Path]:
    """The artefacts that are meant by directories, each an artefact or a directory of them, which may be empty."""
    made = []
    for place in places:
        within = sorted(place.iterdir()) if place.is_dir() else [place]
        several = all(path.is_dir() and path.name != "runs" for path in within)
        made += within if several else [place]
    return made


def read(place: Path, scratch: Path) -> Artefact:
    """Read an artefact.

    :param scratch: a directory for the copy of its history, which stays open.
    :raises LabError: it is none, it is of another labctl, or parts of it are missing.
    """
    if not place.is_dir():
        raise LabError(f"there is no directory {place}")
    if not (place / FILE).is_file():
        raise LabError(f"{place} is no artefact of a job: it has no {FILE}")
    copy = scratch / uuid.uuid4().hex / FILE
    try:
        files.make_directories(copy.parent)
        for name in (FILE, _LOG):
            if (place / name).is_file():
                files.copy(place / name, copy.with_name(name), 0o600)
    except OSError as error:
        raise LabError(f"{place} cannot be read: {error.filename or place}: {error.strerror}") from error
    try:
        schema = schema_of(copy)
    except LabError as error:
        raise LabError(f"{place} is cut off: {FILE}: {error.message}") from error
    if schema != SCHEMA:
        what = f"is cut off: {FILE} is empty" if not schema else f"has the history schema {schema}"
        raise LabError(f"{place} {what}{f'; this labctl has {SCHEMA}' if schema else ''}")
    history = History(copy)
    try:
        return _checked(place, history)
    except BaseException:
        history.close()
        raise


def _checked(place: Path, history: History) -> Artefact:
    jobs = history.jobs()
    if len(jobs) != 1:
        raise LabError(f"{place} is no artefact of a job: it has the history of whole nights")
    job, run = jobs[0], history.run(jobs[0]["run"])
    rows = {row["name"]: row for row in history.rows("SELECT * FROM cells WHERE run = ? ORDER BY id", [run["id"]])}
    artefact = Artefact(place, history, run, job, rows)
    for row in history.rows("SELECT path FROM artefacts"):
        artefact.inside(row["path"])
    _record_unfinished(artefact)
    for path, size in job["files"].items():
        artefact.inside(path)
        there = place / path
        has = there.stat().st_size if there.is_file() else None
        if has != size:
            what = "is missing" if has is None else f"has {has} bytes of {size}"
            raise LabError(f"{place} is cut off: {path} {what}")
    return artefact


def _record_unfinished(artefact: Artefact) -> None:
    """Record the files of attempts that were cut short, in the copy of the history."""
    query = "SELECT a.id, a.number, c.name FROM attempts a JOIN cells c ON c.id = a.cell WHERE a.ended IS NULL"
    for row in artefact.history.rows(query):
        where = f"runs/{artefact.run['id']:04}/{slug(row['name'])}/attempt-{row['number']}"
        kinds = kinds_of(artefact.place / where)
        root = artefact.history.path.parent / where
        artefact.history.record_artefacts(row["id"], {root / path.name: kind for path, kind in kinds.items()})
