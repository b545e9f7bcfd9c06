"""A cell that follows a branch: the history has the commit, and a regression names the range to search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nights import Bench

from labctl.nightly import analysis, facts, report
from labctl.nightly import matrix as matrices
from labctl.nightly.matrix import Cell
from labctl.topology.problems import TopologyError

NAME = "alpha/keystone-stable-zed"
ENTRY = "  - {topology: alpha.yaml, sources: {keystone: {git: keystone, ref: stable/zed}}}\n"


@pytest.fixture
def following(bench: Bench) -> Bench:
    (bench.folder / "keystone").mkdir()
    bench.matrix("retries: 0", entries=ENTRY)
    return bench


def night(bench: Bench, monkeypatch: pytest.MonkeyPatch, commit: str, test: str) -> dict[str, Any]:
    """A night in which the branch has this commit."""
    found = {"keystone": {"commit": commit * 8, "layer": f"source-keystone-{commit}"}}
    monkeypatch.setattr(facts, "sources", lambda lab: found)
    bench.script({"alpha": {"test": [test]}})
    (bench.folder / "calls").unlink(missing_ok=True)
    return bench.night()[NAME]


def test_the_lab_comes_up_with_the_branch_of_a_repository_beside_the_file(following: Bench) -> None:
    (cell,) = matrices.load(following.folder / "nightly.yaml").cells
    assert cell.name == NAME
    assert cell.up("lab")[-2:] == ["--source", f"keystone={following.folder}/keystone@stable/zed"]
    assert Cell.from_json(cell.to_json()) == cell


def test_a_regression_names_the_project_s_commits_and_the_search(
    following: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert night(following, monkeypatch, "11111", "ok")["outcome"] == "passed"
    assert night(following, monkeypatch, "22222", "fail")["outcome"] == "failed"
    (standing,) = analysis.standings(following.history, 2)
    assert standing.kind is analysis.Kind.REGRESSION, "other code of the project, so no flake"
    assert standing.ranges == {"keystone": ("11111" * 8, "22222" * 8)}
    target = following.folder / "report"
    report.write(following.history, target)
    page = (target / report.page(2)).read_text()
    search = f"labctl nightly bisect {NAME} --source keystone={following.folder}/keystone --good 111111111111"
    assert f"{search} --bad 222222222222 finds which" in page
    assert f"--source keystone={following.folder}/keystone@{'22222' * 8}" in page, "reproduced with the very commit"
    assert "keystone 222222222222" in page


def test_the_same_commit_is_the_same_input(following: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    night(following, monkeypatch, "11111", "ok")
    night(following, monkeypatch, "11111", "fail")
    (standing,) = analysis.standings(following.history, 2)
    assert (standing.kind, standing.ranges) == (analysis.Kind.SUSPECT, {})


def test_an_unknown_project_is_an_error_with_its_place(following: Bench, tmp_path: Path) -> None:
    following.matrix(entries=ENTRY.replace("keystone:", "keystoen:"))
    with pytest.raises(TopologyError, match=r"nightly.yaml:2:38: .*did you mean 'keystone'"):
        matrices.load(following.folder / "nightly.yaml")
