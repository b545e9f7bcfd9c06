"""What goes with time, who is told, and which commit a bisection names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from nights import STAND_IN, Bench
from support import ROOT

from labctl.errors import LabError
from labctl.host import process
from labctl.nightly import steps, upkeep
from labctl.nightly.bisect import Bisection
from labctl.nightly.matrix import Cell
from labctl.nightly.model import Notify, NotifyOn, Retention
from labctl.nightly.run import artefacts
from labctl.nightly.steps import Steps
from labctl.records.directory import names


def hook(bench: Bench, on: NotifyOn) -> Notify:
    """A command that keeps what it is told."""
    script = f"import os, sys; open({str(bench.folder / 'told')!r}, 'w').write(sys.stdin.read())"
    return Notify(command=(sys.executable, "-c", script), on=on)


def test_the_hook_hears_of_changes_only_and_gets_since_when(bench: Bench) -> None:
    bench.matrix("retries: 0", "  - topology: alpha.yaml\n")
    index = bench.folder / "index.html"
    bench.night()
    assert not upkeep.notify(bench.history, 1, hook(bench, NotifyOn.CHANGE), index)  # all is good, and was not bad
    bench.night()
    assert not upkeep.notify(bench.history, 2, hook(bench, NotifyOn.CHANGE), index)
    assert not upkeep.notify(bench.history, 2, hook(bench, NotifyOn.FAILURE), index)
    bench.script({"alpha": {"test": ["fail"]}})
    bench.night()
    assert upkeep.notify(bench.history, 3, hook(bench, NotifyOn.CHANGE), index)
    told = json.loads((bench.folder / "told").read_text())
    assert told["good"] is False
    assert (told["cells"][0]["bad_stage"], told["cells"][0]["since_run"], told["cells"][0]["last_good_run"]) == (
        "test",
        3,
        2,
    )


def test_a_hook_that_fails_says_what_it_printed(bench: Bench) -> None:
    bench.matrix("retries: 0", "  - topology: alpha.yaml\n")
    bench.night()
    broken = Notify(command=("sh", "-c", "echo no mail here >&2; exit 3"), on=NotifyOn.ALWAYS)
    with pytest.raises(LabError, match="no mail here"):
        upkeep.notify(bench.history, 1, broken, bench.folder)
    slow = Notify(command=("sleep", "60"), on=NotifyOn.ALWAYS, timeout=1)
    with pytest.raises(LabError, match="timed out after 1 s"):
        upkeep.notify(bench.history, 1, slow, bench.folder)


def test_prune_removes_artefacts_and_kept_labs_and_leaves_outcomes(bench: Bench) -> None:
    bench.matrix("retries: 0", "  - topology: alpha.yaml\n")
    bench.script({"alpha": {"test": ["fail"]}})
    for _ in range(3):
        bench.night(keep=True)
    assert len(names()) == 3
    found = upkeep.old(bench.history, Retention(runs=1, labs=1))
    assert sorted((o.kind, o.run) for o in found) == [("artefacts", 1), ("artefacts", 2), ("lab", 1), ("lab", 2)]
    assert upkeep.prune(bench.history, found, bench.steps) == []
    assert len(names()) == 1
    assert not artefacts(bench.history, 2).joinpath("alpha").exists()
    assert artefacts(bench.history, 3).is_dir()
    assert [row["outcome"] for row in bench.history.cells(1)] == ["failed"]
    assert [o for o in upkeep.old(bench.history, Retention(runs=1, labs=1)) if o.kind == "lab"] == []


# --- bisection -------------------------------------------------------------------------------------


def git(where: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false"]
    return process.output(["git", "-C", str(where), *identity, *words])


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, list[str]]:
    """Eight commits; the sixth breaks what the stand-in does with `up`, the third changes an image."""
    root = tmp_path / "repository"
    (root / "labctl" / "images").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(root))
    commits = []
    for number in range(1, 9):
        (root / "number").write_text(str(number))
        if number == 3:
            (root / "labctl" / "images" / "recipe").write_text("another")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"change {number}")
        commits.append(git(root, "rev-parse", "HEAD"))
    return root, commits


#: labctl as a commit has it: `up` to the bad stage fails from the sixth commit on.
AT_COMMIT = f"""
import json, os, runpy, sys
from pathlib import Path
number = int((Path(os.environ["PYTHONPATH"]) / "number").read_text())
last = sys.argv[1] == "up" and sys.argv[-1] == "infrastructure"
Path(os.environ["STAND_IN"], "script.json").write_text(json.dumps(
    {{"bisect": {{"up": ["fail" if last and number >= 6 else "ok"]}}}}
))
with open(Path(os.environ["STAND_IN"], "tried"), "a") as sink:
    sink.write(f"{{number}} {{' '.join(sys.argv[1:])}}\\n")
runpy.run_path({str(STAND_IN)!r}, run_name="__main__")
"""


def bisection(bench: Bench, repository: Path, good: str, bad: str) -> Bisection:
    program = bench.folder / "labctl.py"
    program.write_text(AT_COMMIT)
    cell = Cell(name="alpha", topology=str(bench.folder / "alpha.yaml"))
    environment = {"STAND_IN": str(bench.folder)}
    command = (sys.executable, str(program))
    return Bisection(
        bench.history, cell, "infrastructure", good, bad, root=repository, command=command, environment=environment
    )


def test_a_bisection_names_the_first_bad_commit_and_goes_on_from_snapshots(
    bench: Bench, repository: tuple[Path, list[str]]
) -> None:
    root, commits = repository
    search = bisection(bench, root, commits[0], commits[7])
    assert search.run() == (commits[5], "change 6")
    verdicts = {commits.index(t.commit) + 1: (t.verdict, t.checkpoint) for t in search.tries}
    assert verdicts[1] == ("good", False)
    assert verdicts[8] == ("bad", False)  # an image differs, so the snapshot of the first is of no use
    later = [used for number, (_, used) in verdicts.items() if 3 <= number <= 7]
    assert later
    assert all(later)
    tried = (bench.folder / "tried").read_text()
    assert "--from before --until infrastructure" in tried
    assert "--until sql" in tried
    row = bench.history.rows("SELECT * FROM bisections")[0]
    assert (row["culprit"], row["subject"]) == (commits[5], "change 6")
    assert len(json.loads(row["steps"])) == len(search.tries)
    assert names() == []
    assert git(root, "worktree", "list").count("\n") == 0


def test_the_labctl_of_a_directory_is_the_one_that_runs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bisection that is called in a checkout tries other commits than that checkout's."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "labctl").mkdir()
    (tmp_path / "labctl/__init__.py").touch()
    (tmp_path / "labctl/__main__.py").write_text("print('another labctl')")
    log = tmp_path / "log"
    assert Steps(lambda: False, directory=tmp_path).run([], log, 60).good
    assert log.read_text().splitlines()[-1] == "another labctl"


def test_of_a_long_error_the_first_line_and_the_end_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("1.0s lab up\nerror: stage databases failed:\n" + "    traceback\n" * 1000 + "    Access denied\n")
    said = steps.said(log)
    assert said.startswith("stage databases failed:\n…")
    assert said.endswith("Access denied")
    assert len(said) < 1700


def test_a_bisection_between_good_commits_is_refused(bench: Bench, repository: tuple[Path, list[str]]) -> None:
    root, commits = repository
    with pytest.raises(LabError, match=f"nothing to bisect: alpha is good at {commits[4][:12]}"):
        bisection(bench, root, commits[0], commits[4]).run()
    assert names() == []
    with pytest.raises(LabError, match="no-such-commit"):
        bisection(bench, root, "no-such-commit", commits[4]).run()
