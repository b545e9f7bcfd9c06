"""Which commit of a project breaks a cell: on one lab, from one snapshot, past what does not install."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.errors import LabError, RefusedError
from labctl.host import process
from labctl.nightly import culprit
from labctl.nightly.culprit import Culprit
from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.nightly.steps import Outcome
from labctl.sources.given import Given

COMMITS, FIRST_BAD = 16, 11


def git(where: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.invalid", "-c", "commit.gpgsign=false"]
    return process.output(["git", "-C", str(where), *identity, *words])


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, list[str]]:
    """Sixteen commits of a project, of which the eleventh has a fault."""
    root, commits = tmp_path / "neutron", []
    git(tmp_path, "init", "-q", "-b", "master", str(root))
    for number in range(1, COMMITS + 1):
        (root / "number").write_text(str(number))
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"change {number}")
        commits.append(git(root, "rev-parse", "HEAD"))
    return root, commits


#: The end of what `labctl test` says when a test failed.
TESTED = """\
=========================== short test summary info ============================
FAILED e2e/test_network.py::test_in_use - Failed: DID NOT RAISE ConflictException
============================== 1 failed in 52.13s ==============================
lab: the end-to-end suite exited with status 1
"""


class Commands:
    """labctl's commands: what a lab has of the project decides what becomes of its tests."""

    def __init__(self, commits: list[str]) -> None:
        self.numbers = {commit: number for number, commit in enumerate(commits, 1)}
        self.said: list[str] = []
        self.broken: dict[str, int] = {}
        self.uninstallable: set[int] = set()
        self.has = 0
        self.up = False

    def run(self, words: Sequence[str], log: Path, timeout: float) -> Outcome:
        verb, status = words[0], 0
        self.said.append(" ".join(words[:2] if verb == "snapshot" else words[:1]))
        with log.open("a") as sink:
            if verb in ("up", "down"):
                self.up = verb == "up"
            elif verb == "snapshot" and words[1] == "restore":
                self.has = 0
            elif verb == "source":
                self.has = self.numbers[words[2].rpartition("@")[2]]
                status = int(self.has >= self.broken.get("source", 99))
            elif verb == "test":
                status = int(self.has >= self.broken.get("test", 99))
            if verb in self.broken and status:
                sink.write(f"error: {verb} of {self.has} fails\n" if verb == "source" else TESTED)
        return Outcome(status, False, 1.0, 1.0, log)

    def made(self, home: object, spec: object, given: Given) -> None:
        if self.numbers[given.ref] in self.uninstallable:
            raise RefusedError(f"change {self.numbers[given.ref]} does not build")


@pytest.fixture
def commands(repository: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands(repository[1])
    monkeypatch.setattr(Culprit, "_steps", made)
    monkeypatch.setattr(culprit, "exists", lambda name: made.up)
    monkeypatch.setattr(culprit.Lab, "load", lambda name: SimpleNamespace(spec=None))
    monkeypatch.setattr(culprit.source, "home", lambda lab: None)
    monkeypatch.setattr(culprit.build, "made", made.made)
    return made


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "nightly" / "history.sqlite") as opened:
        yield opened


def search(history: History, repository: tuple[Path, list[str]], **options: str) -> Culprit:
    root, commits = repository
    names: Mapping[str, str] = {"good": commits[0], "bad": commits[-1], **options}
    return Culprit(history, Cell("zed-2node", "zed-2node"), "neutron", str(root), names["good"], names["bad"])


@pytest.mark.parametrize("verb", ["test", "source"])
def test_a_fault_among_sixteen_commits_is_found_in_six_tries(
    history: History, repository: tuple[Path, list[str]], commands: Commands, verb: str
) -> None:
    commands.broken = {verb: FIRST_BAD}
    found = search(history, repository)
    assert found.run() == (repository[1][FIRST_BAD - 1], f"change {FIRST_BAD}")
    assert len(found.tries) == 6
    bad = [each for each in found.tries if each.verdict == "bad"]
    evidence = "test_network.py::test_in_use" if verb == "test" else "source of "
    assert all(evidence in each.why and Path(each.log).exists() for each in bad), "each has its evidence"
    assert commands.said.count("up") == 1
    assert commands.said.count("snapshot create") == 1
    assert commands.said.count("snapshot restore") == 6
    assert commands.said[-1] == "down"
    assert not (found.where / "tree").exists()
    assert git(repository[0], "status", "--porcelain") == "", "the repository is as it was"
    (row,) = history.rows("SELECT * FROM bisections")
    assert (row["culprit"], row["stage"], len(json.loads(row["steps"]))) == (
        repository[1][FIRST_BAD - 1],
        "source neutron",
        6,
    )


def test_commits_that_do_not_install_are_skipped(
    history: History, repository: tuple[Path, list[str]], commands: Commands
) -> None:
    commands.broken, commands.uninstallable = {"test": FIRST_BAD}, {6, 7, 8, 9}
    found = search(history, repository)
    assert found.run()[1] == f"change {FIRST_BAD}"
    skipped = [each for each in found.tries if each.verdict == "skip"]
    assert skipped
    assert all("does not build" in each.why for each in skipped)


def test_where_the_fault_is_behind_commits_that_do_not_install_all_of_them_are_named(
    history: History, repository: tuple[Path, list[str]], commands: Commands
) -> None:
    commands.broken, commands.uninstallable = {"test": FIRST_BAD}, {9, 10, 11}
    with pytest.raises(LabError, match="the first bad commit is one of 4, of which others do not install") as caught:
        search(history, repository).run()
    assert all(commit[:12] in caught.value.message for commit in repository[1][8:12])
    assert not commands.up


def test_a_good_commit_that_is_bad_ends_the_search(
    history: History, repository: tuple[Path, list[str]], commands: Commands
) -> None:
    commands.broken = {"test": 1}
    with pytest.raises(LabError, match="nothing to bisect: neutron is bad at") as caught:
        search(history, repository).run()
    assert caught.value.hint.startswith("less ")
    assert not commands.up


def test_a_commit_that_does_not_exist_is_named_before_a_lab_comes_up(
    history: History, repository: tuple[Path, list[str]], commands: Commands
) -> None:
    with pytest.raises(LabError, match="has no commit 'nothing'"):
        search(history, repository, bad="nothing").run()
    assert "up" not in commands.said


def test_branches_of_the_repository_can_be_named(
    history: History, repository: tuple[Path, list[str]], commands: Commands
) -> None:
    git(repository[0], "branch", "stable", repository[1][3])
    commands.broken = {"test": FIRST_BAD}
    assert search(history, repository, good="stable", bad="master").run()[1] == f"change {FIRST_BAD}"


@pytest.mark.parametrize(
    ("cell", "test", "words"),
    [
        ({}, "", ["--smoke"]),
        ({"select": ("test_image.py",)}, "", ["test_image.py"]),
        ({"smoke": True, "keyword": "server"}, "", ["--smoke", "-k", "server"]),
        ({"smoke": True, "select": ("test_image.py",)}, "in_use", ["-k", "in_use"]),
    ],
)
def test_the_tests_that_decide_are_those_named_else_the_cell_s(
    history: History, cell: dict[str, Any], test: str, words: list[str]
) -> None:
    found = Culprit(history, Cell("c", "zed-2node", **cell), "neutron", "/tree", "1", "2", test)._tests()
    rest = [word.rpartition("/")[2] for word in found[found.index("4") + 1 :] if word not in ("--", "--no-bundle")]
    assert rest == words
    assert "--no-bundle" in found, "a diagnosis of each bad commit takes as long as its test"
