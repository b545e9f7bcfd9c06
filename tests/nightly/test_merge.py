"""A night in jobs of a CI system: what each leaves, and what is made of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import zstandard
from commandline import Labctl
from nights import Bench
from support import IDENTITY, ROOT, SMALL, write

from labctl.host import process
from labctl.nightly import artefact, cellrun, report
from labctl.nightly import matrix as matrices
from labctl.nightly import run as running
from labctl.nightly.history import FILE, History
from labctl.records.directory import names
from labctl.records.lab import Lab
from labctl.testing import junit

sys.path.insert(0, str(ROOT / "bench"))

from nightly_split import different, told

CELLS = ("alpha", "beta", "gamma", "delta")
MATRIX = "".join(f"  - topology: {name}.yaml\n" for name in CELLS)
PAIR = "".join(f"  - topology: {name}.yaml\n" for name in CELLS[:2])
#: One cell of each outcome: passed, failed in a test, flaky, failed in a stage.
ACTIONS = {"beta": {"test": ["fail"]}, "gamma": {"test": ["fail", "ok"]}, "delta": {"up": ["fail"]}}


@dataclass
class Split:
    """A night of four cells in jobs, and the machine on which what they leave is merged."""

    bench: Bench
    labctl: Labctl
    monkeypatch: pytest.MonkeyPatch

    @property
    def nights(self) -> Path:
        """The artefacts."""
        return self.bench.folder / "nights"

    def job(self, *cells: str, place: str = "", status: int = 0) -> Path:
        """Run cells as a job; the artefact is named after the first."""
        where = self.nights / (place or cells[0])
        words = [word for cell in cells for word in ("--cell", cell)]
        done = self.bench.process(*words, "--artefact", str(where))
        assert process.follow(done, timeout=120).status == status, self.bench.said
        return where

    def merge(self, *places: Path, expected: Path | None = None) -> tuple[int, str]:
        """``labctl nightly merge`` on another machine; its status, and what it said."""
        self.monkeypatch.setenv("LABCTL_HOME", str(self.home))
        more = ["--expected", expected] if expected else []
        status, printed, said = self.labctl("nightly", "merge", *(places or [self.nights]), *more)
        return status, printed + said

    @property
    def home(self) -> Path:
        """labctl's home there."""
        return self.bench.folder / "merging-home"

    def cells(self) -> dict[str, dict[str, Any]]:
        """The cells of the newest run there."""
        return {cell["name"]: cell for cell in self.shown()["cells"]}

    def shown(self) -> dict[str, Any]:
        """``labctl nightly show -o json`` there."""
        status, printed, _ = self.labctl("nightly", "show", "-o", "json")
        assert status == 0
        return dict(json.loads(printed))

    def content(self) -> dict[str, list[Any]]:
        """Every row of the history there."""
        with sqlite3.connect(self.home / "nightly" / FILE) as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


@pytest.fixture
def split(bench: Bench, labctl: Labctl, monkeypatch: pytest.MonkeyPatch) -> Split:
    write(bench.folder, SMALL.replace("name: small", "name: delta"), "delta.yaml")
    bench.matrix("retries: 1", MATRIX)
    return Split(bench, labctl, monkeypatch)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefacts of two jobs that are done, one of each of two cells."""
    folder = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_HOME", str(folder / "home"))
        bench = Bench(folder)
        bench.history.close()
        bench.matrix("retries: 0", PAIR)
        for cell in CELLS[:2]:
            job(bench, folder / "nights" / cell, cell)
    return folder / "nights"


def job(bench: Bench, place: Path, cell: str) -> None:
    """Run a cell as a job, in this process."""
    matrix = matrices.load(bench.folder / "nightly.yaml")
    with artefact.opened(place) as history:
        night = running.begin(history, matrix, matrix.only([], [cell]), 1, None, bench.steps, artefact.new_job(history))
        running.finish(history, night.number, night.run(), [partial(artefact.seal, history, night.number)])


@pytest.fixture
def good(split: Split, done: Path) -> Split:
    """A night of two cells, each in a job that is done."""
    split.bench.matrix("retries: 0", PAIR)
    shutil.copytree(done, split.nights)
    return split


class _Links(HTMLParser):
    """The links of a page that lead out of it, below its directory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k == "href" and v and not v.startswith(("#", "data:"))]


def test_a_night_in_four_jobs_has_the_run_and_the_report_of_a_whole_one(split: Split) -> None:
    bench = split.bench
    bench.script(ACTIONS)
    whole = bench.process("--jobs", "1")
    assert process.follow(whole, timeout=120).status == 1, bench.said
    shown = json.loads(split.labctl("nightly", "show", "-o", "json")[1])
    pages = bench.history.path.parent / "report"

    (bench.folder / "calls").unlink()  # the stand-in counts them: each job is the first to call
    for cell in CELLS:
        split.job(cell, status=1 if cell in ("beta", "delta") else 0)
    assert names() == []
    status, said = split.merge()
    assert status == 1
    assert "run 1: 2 failed, 1 flaky, 1 passed" in said

    assert [cell["outcome"] for cell in shown["cells"]] == ["passed", "failed", "flaky", "failed"]
    assert told(split.shown()) == told(shown)
    merged = split.home / "nightly"
    roots = [bench.history.path.parent, merged, *(split.nights / cell for cell in CELLS)]
    for name in ("index.html", "run-0001.html"):
        assert different(pages / name, merged / "report" / name, roots) == [], name
        links = [link.partition("#")[0] for link in _Links(merged / "report" / name).found]
        assert any(link.startswith("../runs/0001/") for link in links)
        assert [link for link in links if not (merged / "report" / link).exists()] == []
    cases = [junit.read(root / "runs" / "0001" / "junit.xml") for root in (bench.history.path.parent, merged)]
    old, new = ([(case.name, case.outcome, case.message) for case in found] for found in cases)
    assert new == old
    for table in ("attempts", "stages", "tests", "findings", "artefacts"):
        count = f"SELECT count(*) AS n FROM {table}"
        with History(merged / FILE) as history:
            assert history.rows(count) == bench.history.rows(count), table


def test_all_that_is_known_of_a_failed_cell_is_in_the_merged_run(split: Split) -> None:
    """With the real labctl and the fake driver: stages, images, findings, diagnosis, bundle; and no secret."""
    bench = split.bench
    write(bench.folder, IDENTITY.replace("name: identity", "name: beta"), "beta.yaml")
    secrets: set[str] = set()
    end = cellrun.Attempt._end

    def known(attempt: cellrun.Attempt, verdict: cellrun.Verdict) -> None:
        secrets.update(secret.reveal() for secret in Lab.load(attempt.lab).secrets().values())
        end(attempt, verdict)

    split.monkeypatch.setattr(cellrun.Attempt, "_end", known)
    bench.matrix("retries: 0", PAIR)
    bench.script({"beta": {"up": ["fail"]}}, real=True)
    job(bench, split.nights / "beta", "beta")
    assert split.merge()[0] == 1
    queries = {
        "attempts": "number, began, ended, outcome, bad_stage, message, inputs, images, git_commit, sources, diagnosis",
        "stages": "name, position, outcome, seconds, cpu_seconds",
        "findings": "place, what, last",
        "artefacts": "kind, path",
        "images": "name, packages",
    }
    with History(split.nights / "beta" / FILE) as one, History(split.home / "nightly" / FILE) as merged:
        for table, columns in queries.items():
            rows = one.rows(f"SELECT {columns} FROM {table} ORDER BY {columns}")
            assert merged.rows(f"SELECT {columns} FROM {table} ORDER BY {columns}") == rows
            assert rows or table == "images", table
        kinds = {row["kind"] for row in one.rows("SELECT kind FROM artefacts")}
    assert {"log", "bundle"} <= kinds
    assert secrets
    assert [path for path in split.nights.rglob("*") if path.is_file() and any(s in text(path) for s in secrets)] == []
    assert split.cells()["beta"]["diagnosis"].startswith("M1 machine does not run")


def text(path: Path) -> str:
    """What is in a file, also in a bundle."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data.decode(errors="replace")


def test_what_a_job_leaves_is_complete_without_the_machine(good: Split) -> None:
    place = good.nights / "alpha"
    with History(place / FILE) as history:
        paths = [row["path"] for row in history.rows("SELECT path FROM artefacts")]
        assert paths
        assert [path for path in paths if Path(path).is_absolute() or not (place / path).exists()] == []
        (job,) = history.jobs()
        assert "runs/0001/alpha/attempt-1/up.log" in job["files"]
    shutil.move(place, good.bench.folder / "elsewhere")
    page = report.write(History(good.bench.folder / "elsewhere" / FILE), good.bench.folder / "elsewhere" / "report")
    links = [link.partition("#")[0] for link in _Links(page).found]
    assert "../runs/0001/alpha/attempt-1/up.log" in links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_same_artefacts_again_change_nothing(good: Split) -> None:
    assert good.merge()[0] == 0
    before, files = good.content(), sorted(good.home.rglob("runs/**/*"))
    status, said = good.merge()
    assert status == 0
    assert "run 1 has all of these artefacts already" in said
    again = good.nights / "alpha"
    status, said = good.merge(again, again, good.nights / "beta")
    assert f"{again} is the artefact in {again}, which counts once" in said
    assert status == 0
    assert good.content() == before
    assert sorted(good.home.rglob("runs/**/*")) == files


def test_a_late_artefact_joins_its_run_and_a_later_job_takes_the_place_of_an_earlier_one(good: Split) -> None:
    expected = good.bench.folder / "nightly.yaml"
    late = good.bench.folder / "late"
    shutil.move(good.nights / "beta", late)
    status, said = good.merge(expected=expected)
    assert (status, good.cells()["beta"]["outcome"]) == (1, "lost")
    assert "beta   lost" in said
    assert "its job left no artefact" in said
    assert good.merge(good.nights, late, expected=expected)[0] == 0
    assert [(name, cell["outcome"]) for name, cell in good.cells().items()] == [("alpha", "passed"), ("beta", "passed")]
    assert good.shown()["id"] == 1

    good.bench.script({"alpha": {"test": ["fail"]}})
    good.monkeypatch.setenv("LABCTL_HOME", str(good.bench.folder / "labctl-home"))
    again = good.job("alpha", place="again", status=1)
    before = good.nights / "alpha"
    assert good.merge(again, late)[0] == 1
    assert good.cells()["alpha"]["outcome"] == "failed"
    log = good.home / "nightly/runs/0001/alpha/attempt-1/test.log"
    assert "1 failed" in log.read_text()
    assert good.merge(before, late)[0] == 1  # what is older does not come back
    assert good.cells()["alpha"]["outcome"] == "failed"
    assert "1 failed" in log.read_text()


def test_a_job_that_died_is_lost_where_it_was_and_so_is_one_that_left_nothing(split: Split) -> None:
    bench = split.bench
    bench.script({"beta": {"test": ["hang"]}})
    split.job("alpha")
    killed = bench.process("--cell", "beta", "--cell", "gamma", "--artefact", str(split.nights / "dead"))
    until(lambda: [words for words in bench.calls("test") if "beta" in words[2]])
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert len(names()) == 1
    cells = bench.folder / "cells.json"
    options = ("nightly", "cells", "--file", bench.folder / "nightly.yaml")
    cells.write_text(split.labctl(*options, "-o", "json")[1])

    status, _ = split.merge(expected=cells)
    assert status == 1
    found = split.cells()
    assert [(name, cell["outcome"], cell["bad_stage"]) for name, cell in found.items()] == [
        *(("alpha", "passed", ""), ("beta", "lost", "test"), ("gamma", "lost", ""), ("delta", "lost", "")),
    ]
    assert found["beta"]["message"] == "its job ended during test"
    assert found["gamma"]["message"] == "its job ended before it began"
    assert found["delta"]["message"] == "its job left no artefact"
    assert split.shown()["ended"]
    page = (split.home / "nightly" / "report" / "run-0001.html").read_text()
    assert "3 of 4 cells need attention" in page
    assert "It was lost with its job at test." in page
    assert 'href="../runs/0001/beta/attempt-1/up.log"' in page
    assert "labctl nightly run --cell delta" in page
    failed = [case for case in junit.read(split.home / "nightly/runs/0001/junit.xml") if case.outcome == "failed"]
    assert [case.name for case in failed] == ["beta.cell", "gamma.cell", "delta.cell"]

    split.monkeypatch.setenv("LABCTL_HOME", str(bench.folder / "labctl-home"))
    bench.script({})
    split.job("alpha", place="next")  # on the machine where the lab was left
    assert names() == []


def test_a_night_without_any_artefact_is_all_lost(split: Split) -> None:
    split.nights.mkdir()
    split.monkeypatch.chdir(split.bench.folder)
    status, said = split.merge(expected=split.bench.folder / "nightly.yaml")
    assert status == 1
    assert "run 1: 4 lost" in said
    assert [cell["outcome"] for cell in split.cells().values()] == ["lost"] * 4
    status, said = split.merge()
    assert f"error: there is no artefact in {split.nights}" in said


def test_a_killed_job_goes_on_with_resume(split: Split) -> None:
    bench = split.bench
    bench.script({"alpha": {"test": ["hang", "ok"]}})
    where = split.nights / "alpha"
    night = bench.process("--cell", "alpha", "--artefact", str(where))
    until(lambda: bench.calls("test"))
    os.kill(night.pid, signal.SIGTERM)
    assert process.follow(night, timeout=60).status != 0
    assert f"labctl nightly run --resume --artefact {where}" in bench.said
    assert split.merge()[0] == 1
    assert split.cells()["alpha"]["outcome"] == "lost"
    split.monkeypatch.setenv("LABCTL_HOME", str(bench.folder / "labctl-home"))
    again = bench.process("--resume", "--artefact", str(where))
    assert process.follow(again, timeout=60).status == 0, bench.said
    assert split.merge()[0] == 0
    assert split.cells()["alpha"]["outcome"] == "passed"
    assert split.shown()["id"] == 1
    assert "2 passed" in (split.home / "nightly/runs/0001/alpha/attempt-1/test.log").read_text()


def until(condition: Callable[[], object]) -> None:
    import time

    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


# --- what is refused -------------------------------------------------------------------------------


def truncated(place: Path) -> None:
    os.truncate(place / FILE, (place / FILE).stat().st_size // 2)


def emptied(place: Path) -> None:
    (place / FILE).write_bytes(b"")


def shortened(place: Path) -> None:
    os.truncate(place / "runs/0001/beta/attempt-1/test.log", 1)


def without_a_log(place: Path) -> None:
    (place / "runs/0001/beta/attempt-1/up.log").unlink()


def without_a_history(place: Path) -> None:
    (place / FILE).unlink()


def changed(statement: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        with sqlite3.connect(place / FILE) as db:
            db.execute(statement)

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "{place} is cut off: history.sqlite: "),
        (emptied, "{place} is cut off: history.sqlite is empty"),
        (shortened, "{place} is cut off: runs/0001/beta/attempt-1/test.log has 1 bytes of "),
        (without_a_log, "{place} is cut off: runs/0001/beta/attempt-1/up.log is missing"),
        (without_a_history, "{place} is no artefact of a job: it has no history.sqlite"),
        (shutil.rmtree, "there is no directory {place}"),
        (changed("PRAGMA user_version = 3"), "{place} has the history schema 3; this labctl has 4"),
        (changed("PRAGMA user_version = 99"), "{place} has the history schema 99; this labctl has 4"),
        (changed("DELETE FROM jobs"), "{place} is no artefact of a job: it has the history of whole nights"),
        (changed("UPDATE runs SET git_commit = '4d5e6f'"), "{place} is of commit 4d5e6f; {other} of commit "),
        (changed("UPDATE runs SET source = 'abc'"), "{place} is of code abc; {other} of code "),
        (changed("UPDATE runs SET settings = '{}'"), "{place} is of matrix 44136fa355b3; {other} of matrix "),
        (changed("UPDATE cells SET name = 'alpha'"), "{other} and {place} both have the cell alpha"),
        (
            changed("UPDATE artefacts SET path = 'runs/0001/../../../etc/passwd'"),
            "{place}: its history names a file outside of runs/0001/: runs/0001/../../../etc/passwd",
        ),
    ],
)
def test_an_artefact_that_does_not_fit_is_named_and_nothing_is_merged(
    good: Split, damage: Callable[[Path], None], said: str
) -> None:
    place, other = good.nights / "beta", good.nights / "alpha"
    damage(place)
    status, printed = good.merge(other, place)
    assert status == 1
    assert said.format(place=place, other=other) in printed
    assert "error: the artefacts are not merged" in printed
    assert "bug in labctl" not in printed
    with History(good.home / "nightly" / FILE) as history:
        assert history.rows("SELECT * FROM runs") == []
    assert not (good.home / "nightly" / "runs").exists()


def test_every_artefact_that_does_not_fit_is_named_at_once(good: Split) -> None:
    emptied(good.nights / "alpha")
    without_a_log(good.nights / "beta")
    printed = good.merge()[1]
    assert f"{good.nights / 'alpha'} is cut off" in printed
    assert f"{good.nights / 'beta'} is cut off" in printed


def test_a_cell_that_was_not_expected_is_of_another_matrix(good: Split) -> None:
    expected = write(good.bench.folder, '[{"cell": "alpha"}, {"cell": "gamma"}]', "cells.json")
    assert f"{good.nights / 'beta'} is of another matrix: beta was not expected" in good.merge(expected=expected)[1]


def test_artefacts_of_two_runs_are_not_one_night(good: Split) -> None:
    assert good.merge(good.nights / "alpha")[0] == 0
    assert good.merge(good.nights / "beta")[0] == 0
    printed = good.merge()[1]
    assert f"{good.nights / 'alpha'} is in run 1 already" in printed
    assert f"{good.nights / 'beta'} is in run 2 already" in printed


def test_what_a_link_in_an_artefact_leads_to_is_not_copied(good: Split) -> None:
    secret = write(good.bench.folder, "secret", "secret")
    (good.nights / "alpha/runs/0001/alpha/attempt-1/linked").symlink_to(secret)
    (good.nights / "alpha/runs/0001/alpha/attempt-1/below").symlink_to(good.bench.folder)
    assert good.merge()[0] == 0
    kept = {path.name for path in (good.home / "nightly/runs/0001/alpha/attempt-1").iterdir()}
    assert "up.log" in kept
    assert not kept & {"linked", "below"}


def test_a_directory_that_holds_something_else_is_no_place_for_an_artefact(bench: Bench, labctl: Labctl) -> None:
    matrix = bench.matrix("retries: 0")
    (bench.folder / "other").mkdir()
    write(bench.folder / "other", "", "file")
    status, _, said = labctl("nightly", "run", "--file", matrix, "--artefact", bench.folder / "other")
    assert (status, "is not an empty directory" in said) == (1, True)
    words: tuple[Any, ...] = ("nightly", "run", "--file", matrix, "--artefact", bench.folder / "new")
    assert f"{words[-1]} has no run to resume" in labctl("nightly", "run", "--resume", "--artefact", words[-1])[2]
    assert not words[-1].exists()
    assert "exclude each other" in labctl(*words, "--keep-on-failure")[2]
    assert "there is no cell 'alph'; did you mean alpha?" in labctl(*words, "--cell", "alph")[2]
    assert "there is no cell 'alph*'" in labctl(*words, "--cell", "alph*")[2]
    assert "give one of them" in labctl(*words, "--cell", "alpha", "--only", "beta")[2]


def test_an_artefact_is_of_one_job(good: Split) -> None:
    place = good.nights / "alpha"
    good.job("beta", place="alpha", status=1)
    assert f"error: {place} is the artefact of another job already" in good.bench.said
