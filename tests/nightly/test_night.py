"""A night: what each cell comes to, what is recorded of it, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Labctl
from nights import Bench

from labctl.errors import LabError
from labctl.host import identity, process
from labctl.nightly import report
from labctl.nightly import run as running
from labctl.nightly.cellrun import diagnosis
from labctl.nightly.history import History
from labctl.nightly.run import artefacts
from labctl.records.directory import names
from labctl.testing import junit


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_good_night_records_stages_tests_and_versions_and_leaves_nothing(bench: Bench) -> None:
    bench.script({}, real=True)
    rows = bench.night()
    assert {name: row["outcome"] for name, row in rows.items()} == dict.fromkeys(("alpha", "beta", "gamma"), "passed")
    stages = bench.stages(rows["alpha"]["id"])
    assert {"up", "up/machines", "up/infrastructure", "test", "down"} <= set(stages)
    assert stages["up"]["seconds"] > 0
    assert stages["up"]["cpu_seconds"] > 0
    tests = bench.history.rows("SELECT count(*) AS n, sum(seconds) AS s FROM tests")[0]
    assert (tests["n"], tests["s"]) == (6, 6.0)
    run = bench.history.run(1)
    assert run["ended"]
    assert run["source"]
    assert json.loads(run["host"])["cores"] == os.cpu_count()
    assert names() == []


def test_a_night_has_a_junit_file_of_each_cell_and_one_of_all(bench: Bench) -> None:
    bench.script({"beta": {"test": ["fail"]}})
    bench.night()
    where = artefacts(bench.history, 1)
    merged = {case.name: case for case in junit.read(where / "junit.xml")}
    assert {"alpha.up", "beta.up", "beta.down"} <= set(merged)
    failed = [case for case in merged.values() if case.outcome == "failed"]
    assert [case.name for case in failed] == ["beta.e2e/test_compute.py::test_boots"]
    assert "it broke" in failed[0].message
    assert len(junit.read(where / "beta" / "junit.xml")) < len(merged)


def test_a_failed_cell_names_its_first_bad_stage_and_the_others_go_on(bench: Bench) -> None:
    bench.script({"alpha": {"up": ["fail"]}, "beta": {"test": ["fail"]}}, real=True)
    rows = bench.night()
    assert [(r["outcome"], r["bad_stage"]) for r in rows.values()] == [
        ("failed", "sql"),
        ("failed", "test"),
        ("passed", ""),
    ]
    assert "it cannot be done" in rows["alpha"]["message"]
    assert "1 of 2 tests failed:\ne2e/test_compute.py::test_boots" in rows["beta"]["message"]
    assert bench.stages(rows["alpha"]["id"])["up/sql"]["outcome"] == "failed"
    assert bench.stages(rows["alpha"]["id"])["up/packages"]["outcome"] == "passed"
    assert names() == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('warning\n{"causes": [], "hints": []}', "nothing is wrong"),
        ("error: lab is locked by up\n  try: wait", "no diagnosis: lab is locked by up"),
        ('{"causes": ', "no diagnosis"),
        ("", "no diagnosis"),
        (
            '   0.1s lab  diagnose\n{"causes": [{"row": "A4", "title": "database does not answer", "where": "ctl",'
            ' "service": "mariadb", "found": "is inactive"}], "hints": []}\n',
            "A4 database does not answer (ctl, mariadb): is inactive",
        ),
    ],
)
def test_a_failed_cell_has_the_first_finding_of_its_diagnosis(said: str, kept: str) -> None:
    assert diagnosis(said) == kept


def test_the_diagnosis_of_a_failed_cell_is_in_the_list_the_data_and_the_report(
    bench: Bench, labctl: Labctl, tmp_path: Path
) -> None:
    bench.script({"alpha": {"up": ["fail"]}}, real=True)
    rows = bench.night("alpha", "beta")
    assert bench.calls("diagnose")[0][2] == rows["alpha"]["lab"]
    assert len(bench.calls("diagnose")) == 2  # its begin and end: none of a good cell
    found = "M1 machine does not run (first, node): first is gone"  # the fake's end with each command
    alpha, beta = bench.history.cells(1)
    assert (alpha["diagnosis"], beta["diagnosis"]) == (found, "")
    shown = json.loads(labctl("nightly", "show", "-o", "json")[1])["cells"]
    assert [cell["diagnosis"] for cell in shown] == [found, ""]
    assert found in labctl("nightly", "show")[1]
    written = report.write(bench.history, tmp_path / "pages")
    assert f"<p>Diagnosis: <code>{found}</code></p>" in written.with_name("run-0001.html").read_text()


def test_what_passes_the_second_time_is_a_flake(bench: Bench) -> None:
    bench.matrix("retries: 1")
    bench.script({"beta": {"test": ["fail", "ok"]}, "gamma": {"test": ["fail"]}})
    rows = bench.night()
    assert [row["outcome"] for row in rows.values()] == ["passed", "flaky", "failed"]
    assert len(bench.history.attempts(rows["beta"]["id"])) == 2
    inputs = {a["inputs"] for a in bench.history.attempts(rows["beta"]["id"])}
    assert len(inputs) == 1
    assert inputs != {""}


def test_a_cell_over_its_time_is_ended_and_the_others_go_on(bench: Bench) -> None:
    bench.matrix("retries: 0\ntimeouts: {up: 3 s, test: 3 s}")
    bench.script({"alpha": {"up": ["hang"]}, "beta": {"test": ["hang"]}})
    began = time.monotonic()
    rows = bench.night()
    assert time.monotonic() - began < 60
    assert [(r["outcome"], r["bad_stage"]) for r in rows.values()] == [
        ("timeout", "up"),
        ("timeout", "test"),
        ("passed", ""),
    ]
    assert "timed out after 3 s" in rows["alpha"]["message"]
    hung = [int(words[3]) for words in bench.calls() if words[0] == "begin" and words[1] in ("up", "test")]
    assert not [pid for pid in hung if identity.of(pid)]
    assert names() == []


def test_cells_run_side_by_side_only_as_memory_allows(bench: Bench) -> None:
    bench.script({name: {"test": ["slow1"]} for name in ("alpha", "beta", "gamma")})
    night = bench.begin(jobs=3)
    night.free = 2 * 1024 * 2**20 + 1  # two of them
    night.run()
    spans = []
    for lab in {words[2] for words in bench.calls("up")}:
        times = [float(words[4]) for words in bench.calls() if words[2] == lab]
        spans.append((min(times), max(times)))
    most = max(sum(begin <= at <= end for begin, end in spans) for at, _ in spans)
    assert most == 2


def test_a_cell_that_needs_more_memory_than_there_is_runs_alone(bench: Bench) -> None:
    night = bench.begin(jobs=3)
    night.free = 0
    assert [row["outcome"] for row in night.run()] == ["passed"] * 3


def test_an_impossible_cell_is_told_and_the_others_go_on(bench: Bench) -> None:
    entries = "  - topology: alpha.yaml\n    bases: [debian12, centos7]\n  - topology: beta.yaml\n"
    bench.matrix("retries: 0", entries)
    rows = bench.night()
    assert {n: r["outcome"] for n, r in rows.items()} == {
        "alpha/debian12": "passed",
        "alpha/centos7": "impossible",
        "beta": "passed",
    }
    assert "does not run on centos7" in rows["alpha/centos7"]["message"]
    failed = [c for c in junit.read(artefacts(bench.history, 1) / "junit.xml") if c.outcome == "failed"]
    assert [c.name for c in failed] == ["alpha/centos7.cell"]


def test_a_topology_that_is_broken_costs_only_its_own_cell(bench: Bench) -> None:
    (bench.folder / "alpha.yaml").write_text("name: alpha\nrelease: zed\n")
    rows = bench.night()
    assert [row["outcome"] for row in rows.values()] == ["impossible", "passed", "passed"]
    assert "alpha.yaml:1:1: bases: the key 'bases' is missing" in rows["alpha"]["message"]


def test_the_lab_of_a_failure_is_kept_when_asked_for(bench: Bench) -> None:
    bench.script({"beta": {"test": ["fail"]}}, real=True)
    rows = bench.night("beta", keep=True)
    assert names() == [rows["beta"]["lab"]]
    assert rows["beta"]["kept"] == 1
    assert next(words[1:3] for words in bench.calls("snapshot")) == ["snapshot", rows["beta"]["lab"]]


def test_an_unfinished_run_is_cleared_away_by_a_new_one(bench: Bench) -> None:
    bench.matrix("retries: 0", "  - topology: alpha.yaml\n")
    bench.script({"alpha": {"test": ["hang"]}})
    killed = bench.process()
    until(lambda: bench.calls("test"))
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    stray = int(bench.calls("test")[0][3])
    until(lambda: not identity.of(stray))  # ends with the run
    bench.script({})
    rows = bench.night()
    assert rows["alpha"]["run"] == 2
    assert bench.history.cells(1)[0]["message"] == "the run was killed and not resumed"
    assert bench.history.unfinished() == []
    assert names() == []


@pytest.mark.parametrize("verb", ["up", "test", "down"])
def test_a_run_killed_in_any_step_is_finished_by_resume(bench: Bench, verb: str) -> None:
    more = "retries: 0\ntimeouts: {up: 5 min}\nnotify: {command: ['true'], timeout: 9 s}"
    bench.matrix(more, "  - topology: alpha.yaml\n  - topology: beta.yaml\n")
    bench.script({"alpha": {verb: ["hang", "ok"]}})
    killed = bench.process("--jobs", "1")
    until(lambda: [words for words in bench.calls(verb) if "alpha" in words[2]])
    stray = int(next(words for words in bench.calls(verb) if "alpha" in words[2])[3])
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    again = bench.process("--resume")
    assert process.follow(again, timeout=120).status == 0, bench.said
    assert not identity.of(stray)
    assert [row["outcome"] for row in bench.history.cells(1)] == ["passed", "passed"]
    assert bench.history.run(1)["ended"]
    assert len(bench.history.rows("SELECT * FROM runs")) == 1
    assert len(bench.history.attempts(bench.history.cells(1)[0]["id"])) == 1
    assert (bench.history.path.parent / "report" / "index.html").is_file()
    assert "bug" not in bench.said
    assert names() == []


def test_a_run_that_is_interrupted_ends_its_commands_and_says_how_to_go_on(bench: Bench) -> None:
    bench.script({name: {"test": ["hang", "ok"]} for name in ("alpha", "beta", "gamma")})
    night = bench.process("--jobs", "3")
    until(lambda: len(bench.calls("test")) == 3)
    os.kill(night.pid, signal.SIGTERM)
    assert process.follow(night, timeout=60).status == 1
    assert "labctl nightly run --resume" in bench.said
    assert not [words for words in bench.calls("test") if identity.of(int(words[3]))]
    assert len(bench.history.unfinished()) == 1
    resumed = running.resume(bench.history, 3, bench.steps)
    assert [row["outcome"] for row in resumed.run()] == ["passed"] * 3


def test_a_rebooted_machine_has_no_strays_to_end(bench: Bench) -> None:
    known = identity.of(os.getpid())
    assert not process.end_stray({**known, "boot": "another"})
    assert not process.end_stray({**known, "start": "1"})
    assert not process.end_stray({})


def test_there_is_nothing_to_resume(bench: Bench) -> None:
    with pytest.raises(LabError, match="there is no unfinished run to resume"):
        running.resume(bench.history, 1, None)


def test_two_nights_at_once_are_refused(bench: Bench) -> None:
    with running.alone(), pytest.raises(LabError, match=f"in progress: pid {os.getpid()}"), running.alone():
        pass


def test_a_disk_that_is_full_for_one_cell_costs_that_cell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the logs of a cell cannot be written; its lab goes all the same."""
    bench.script({"beta": {"up": ["ok"]}})
    night = bench.begin(jobs=1)
    write = running.CellRun.at

    def full(self: running.CellRun, name: str) -> None:
        if self.cell.name == "beta" and name == "test":
            raise OSError(28, "No space left on device", str(self.where))
        write(self, name)

    monkeypatch.setattr(running.CellRun, "at", full)
    rows = {row["name"]: row for row in night.run()}
    assert [row["outcome"] for row in rows.values()] == ["passed", "error", "passed"]
    assert "No space left on device" in rows["beta"]["message"]
    assert names() == []


def test_a_history_on_a_full_disk_says_so_and_the_labs_go(bench: Bench) -> None:
    """SQLite itself is made to find no room, in the middle of the night."""
    night = bench.begin(jobs=1)
    pages = bench.history.rows("PRAGMA page_count")[0]["page_count"]
    bench.history.rows(f"PRAGMA max_page_count = {pages}")
    bench.history.rows("CREATE TEMP TABLE filler (x)")
    with pytest.raises(LabError, match="disk is full") as raised:
        bench.history.record_tests(1, [junit.Case("x" * 100_000, "passed", 1.0)])
    assert "labctl nightly prune" in raised.value.hint
    rows = night.run()
    assert len(rows) == 3
    assert names() == []
    bench.history.rows("PRAGMA max_page_count = 1000000")
    assert bench.history.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_history_of_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LabError, match="newer labctl: its schema is 99, this labctl supports 4") as raised:
        History(path)
    assert f"mv {path} {path}.99" in raised.value.hint
    assert path.read_bytes() == before


def test_a_history_of_the_first_schema_is_migrated_and_keeps_its_attempts(bench: Bench) -> None:
    bench.script({"alpha": {"up": ["fail"]}}, real=False)
    bench.night("alpha")
    path = bench.history.path
    bench.history.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE attempts DROP COLUMN diagnosis")
        db.execute("ALTER TABLE attempts DROP COLUMN sources")
        db.execute("DROP TABLE jobs")
        db.execute("PRAGMA user_version = 1")
    with History(path) as history:
        assert [row["diagnosis"] for row in history.cells(1)] == [""]
        assert [row["sources"] for row in history.rows("SELECT sources FROM attempts")] == ["{}"]
        assert history.jobs() == []


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("this is not a database at all" * 100)
    with pytest.raises(LabError, match="not a database"):
        History(path)
