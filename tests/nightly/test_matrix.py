"""nightly.yaml: its cells, and every problem with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT, SMALL, write

from labctl.errors import LabError
from labctl.nightly import facts
from labctl.nightly import matrix as matrices
from labctl.nightly.matrix import Cell
from labctl.releases import RELEASES
from labctl.topology.model import NAME
from labctl.topology.problems import TopologyError


def load(folder: Path, text: str) -> matrices.Matrix:
    return matrices.load(write(folder, text, "nightly.yaml"))


def test_the_projects_own_matrix_has_a_cell_a_documented_lab() -> None:
    found = matrices.load(ROOT / "nightly.yaml")
    whole = ["zed-2node", "train-2node", "ussuri-6node", "rocky-2node", "epoxy-2node", "gazpacho-2node"]
    assert [cell.name for cell in found.cells if not cell.smoke and not cell.select] == whole
    own = ["zed-telemetry", "train-2node/upgrade-victoria"]  # the rest is zed-2node's, or proven hop by hop
    assert [cell.name for cell in found.cells if cell.select] == own
    assert [cell.name for cell in found.cells if cell.smoke] == ["caracal-2node", "gazpacho-6node"]
    assert {cell.chosen["release"] for cell in found.cells} == set(RELEASES) - {"mitaka"}  # needs CentOS 7's own medium
    assert all(cell.impossible == "" for cell in found.cells)
    rocky = next(cell for cell in found.cells if cell.join)
    assert rocky.nodes == 2  # the one that joins later too
    assert rocky.memory == 8 * 2**30


def test_every_combination_is_a_cell_but_the_excluded(tmp_path: Path) -> None:
    text = """
matrix:
  - topology: train-2node
    releases: [train, ussuri]
    bases: [debian12]
    drivers: [nspawn, libvirt]
    exclude: [{release: ussuri, driver: libvirt}]
    timeouts: {up: 2 h}
    retries: 0
timeouts: {up: 10 min, test: 90 s}
"""
    cells = {cell.name: cell for cell in load(tmp_path, text).cells}
    assert set(cells) == {
        "train-2node/train/debian12/nspawn",
        "train-2node/train/debian12/libvirt",
        "train-2node/ussuri/debian12/nspawn",
    }
    one = cells["train-2node/ussuri/debian12/nspawn"]
    assert one.up("x") == [
        *("up", "train-2node", "--release", "ussuri", "--base", "debian12"),
        *("--driver", "nspawn", "--name", "x"),
    ]
    assert (one.timeouts["up"], one.retries) == (7200, 0)


def test_a_combination_that_cannot_be_is_a_cell_with_the_reason(tmp_path: Path) -> None:
    text = "matrix:\n- topology: zed-2node\n  releases: [zed, mitaka]\n- topology: train-2node\n  bases: [centos7]\n"
    reasons = {cell.name: cell.impossible for cell in load(tmp_path, text).cells}
    assert reasons["zed-2node/zed"] == ""
    assert "mitaka" in reasons["zed-2node/mitaka"]
    assert "centos7" in reasons["train-2node/centos7"]


def test_every_problem_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = """matrix:
  - topology: zed-3node
  - topology: train-2node
    releases: [trian]
    drivers: [nspawn, nspawn]
    tests: {select: [test_compte.py]}
    exclude: [{base: debian12}]
  - topology: zed-2node
    retrys: 1
timeouts: {up: soon}
jobs: 0
"""
    with pytest.raises(TopologyError) as raised:
        load(tmp_path, text)
    shapes = raised.value.message.splitlines()
    assert [line.partition("nightly.yaml:")[2].partition(": ")[0] for line in shapes] == ["9:5", "10:16", "11:7"]
    assert "unknown key 'retrys'; did you mean 'retries'?" in shapes[0]
    assert "write a duration like '45 min' or '2 h', not 'soon'" in shapes[1]

    mended = text.replace("    retrys: 1\n", "").replace("soon", "1 h").replace("jobs: 0\n", "")
    with pytest.raises(TopologyError) as raised:
        load(tmp_path, mended)
    lines = raised.value.message.splitlines()
    assert [line.partition("nightly.yaml:")[2].partition(": ")[0] for line in lines] == [
        "2:15",
        "4:16",
        "5:23",
        "6:22",
        "7:15",
    ]
    assert "unknown topology 'zed-3node'; did you mean 'zed-6node'?" in lines[0]
    assert "unknown release 'trian'; did you mean 'train'?" in lines[1]
    assert "nspawn is named twice" in lines[2]
    assert "did you mean 'test_compute.py'?" in lines[3]
    assert "this matches no combination of the entry" in lines[4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1:1: the file is empty; write matrix:, timeouts:, notify:, ..."),
        ("- zed-2node\n", "a nightly file is a mapping of keys"),
        ("matrix: []\n", ":1:1: matrix: must not be empty"),
        (
            "matrix:\n- topology: zed-2node\n- topology: zed-2node\n",
            ":3:3: matrix[1]: the cell zed-2node is already in entry 1",
        ),
    ],
)
def test_a_file_of_the_wrong_form_says_what_is_meant(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TopologyError) as raised:
        load(tmp_path, text)
    assert said in raised.value.message


def test_a_cell_of_smoke_tests_runs_no_others(tmp_path: Path) -> None:
    """The file's `tests` are for all cells whose entry has none of its own."""
    text = "matrix:\n- topology: zed-2node\n- topology: train-2node\n  tests: {smoke: true, workers: 2}\n"
    whole, brief = load(tmp_path, text).cells
    assert "--smoke" not in whole.test("lab")
    assert brief.test("lab", "--junit", "x") == ["test", "lab", "-n", "2", "--smoke", "--junit", "x", "--"]
    old = {name: value for name, value in vars(brief).items() if name != "smoke"}
    assert Cell.from_json(json.dumps(old)).smoke is False  # of a history that is older than the word
    assert facts.inputs(brief, "", [], {}) != facts.inputs(replace(brief, smoke=False), "", [], {})


def test_a_topology_beside_the_file_is_taken(tmp_path: Path) -> None:
    write(tmp_path, SMALL, "own.yaml")
    (cell,) = load(tmp_path, "matrix: [{topology: own.yaml}]").cells
    assert (cell.name, cell.topology) == ("own", str(tmp_path / "own.yaml"))


def test_an_unknown_cell_names_those_that_are_close() -> None:
    found = matrices.load(ROOT / "nightly.yaml")
    assert [cell.name for cell in found.only(["*-2node"])] == [
        *("zed-2node", "train-2node", "rocky-2node", "epoxy-2node", "gazpacho-2node", "caracal-2node"),
    ]
    with pytest.raises(LabError) as raised:
        found.only(["zed-2nod"])
    assert "there is no cell 'zed-2nod'; did you mean zed-2node" in raised.value.message
    assert "ussuri-6node" in raised.value.message
    assert raised.value.hint == "labctl nightly cells"


def test_a_labs_name_is_one_that_labctl_takes_and_differs_by_run_and_cell() -> None:
    import re

    one = Cell(name="ussuri-6node-with-a-long-name/ussuri", topology="/x/Ussuri_6node.with-a-long-name.yaml")
    assert re.fullmatch(NAME, one.lab(1234))
    assert len(one.lab(1234)) <= 40
    assert len({one.lab(1), one.lab(2), Cell(name="other", topology=one.topology).lab(1)}) == 3
    assert Cell.from_json(one.to_json()) == one
