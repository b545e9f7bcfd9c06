"""A cell that brings its lab to later releases: a step for each hop, in the history, the report and a bisection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nights import Bench
from support import SMALL, write

from labctl.nightly import matrix as matrices
from labctl.nightly import report
from labctl.nightly.matrix import Cell
from labctl.topology.problems import TopologyError

NAME = "old/upgrade-victoria"


@pytest.fixture
def upgrading(bench: Bench) -> Bench:
    write(bench.folder, SMALL.replace("name: small", "name: old").replace("release: zed", "release: train"), "old.yaml")
    bench.matrix("retries: 0", entries="  - {topology: old.yaml, upgrade: [ussuri, victoria]}\n")
    return bench


def verbs(bench: Bench) -> list[str]:
    return [call[1] for call in bench.calls() if call[0] == "begin"]


def test_each_hop_is_a_step_before_the_tests(upgrading: Bench) -> None:
    rows = upgrading.night()
    assert rows[NAME]["outcome"] == "passed"
    assert verbs(upgrading) == ["up", "upgrade", "upgrade", "test", "down"]
    steps = [name for name in upgrading.stages(rows[NAME]["id"]) if not name.startswith("up/")]
    assert set(steps) == {"up", "upgrade-ussuri", "upgrade-victoria", "test", "down"}


def test_a_hop_that_fails_is_the_bad_stage_and_the_report_says_how_to_see_it_again(upgrading: Bench) -> None:
    upgrading.script({"old": {"upgrade": ["ok", "fail"]}})
    rows = upgrading.night()
    assert (rows[NAME]["outcome"], rows[NAME]["bad_stage"]) == ("failed", "upgrade-victoria")
    assert "it cannot be done" in rows[NAME]["message"]
    assert "test" not in verbs(upgrading)
    target = upgrading.folder / "report"
    report.write(upgrading.history, target)
    page = (target / report.page(1)).read_text()
    assert "upgrade-victoria.log" in page
    assert (
        "labctl upgrade again --to victoria --until ussuri\nlabctl upgrade again --to victoria --until victoria" in page
    )


def test_a_hop_that_cannot_be_is_an_impossible_cell_with_the_reason(upgrading: Bench) -> None:
    upgrading.matrix(entries="  - {topology: alpha.yaml, upgrade: [antelope]}\n")
    (cell,) = matrices.load(upgrading.folder / "nightly.yaml").cells
    assert "its Zed comes from debian packages" in cell.impossible


def test_an_unknown_release_is_an_error_with_its_place(upgrading: Bench) -> None:
    upgrading.matrix(entries="  - {topology: old.yaml, upgrade: [ussuri, viktoria]}\n")
    with pytest.raises(TopologyError, match=r"nightly.yaml:2:44: .*did you mean 'victoria'"):
        matrices.load(upgrading.folder / "nightly.yaml")


def test_the_history_of_an_older_labctl_is_read() -> None:
    old = json.loads(Cell("old", "old.yaml").to_json())
    del old["upgrade"]
    del old["timeouts"]["upgrade"]
    cell = Cell.from_json(json.dumps(old))
    assert (cell.upgrade, cell.timeouts["upgrade"]) == ((), 3600)


def test_releases_may_be_given_by_number(tmp_path: Path, upgrading: Bench) -> None:
    upgrading.matrix(entries='  - {topology: old.yaml, upgrade: ["2024.1"]}\n')
    (cell,) = matrices.load(upgrading.folder / "nightly.yaml").cells
    assert cell.name == "old/upgrade-caracal"
    assert list(cell.hops("x")) == ["upgrade-caracal"]
