"""What validating, resolving and planning take grows with the number of nodes, not with its square
(../shared/cases/22)."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from support import ROOT, planned, specify, write

from labctl.operations import script
from labctl.operations.ini import Ini
from labctl.operations.node import File
from labctl.plan.planner import Plan, Stage

sys.path.insert(0, str(ROOT / "bench"))
from plan_scale import exponent, topology


def whole(directory: Path, nodes: int) -> Plan:
    """The plan of a file with that many compute nodes."""
    return planned(specify(write(directory, topology(nodes))))


@contextmanager
def counted() -> Iterator[Counter[CodeType]]:
    """How often each function is called."""
    made: Counter[CodeType] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            made[frame.f_code] += 1

    sys.setprofile(count)
    try:
        yield made
    finally:
        sys.setprofile(None)


def test_work_grows_with_the_nodes_not_with_their_square(tmp_path: Path) -> None:
    sizes, calls = [50, 100, 200], []
    whole(tmp_path, 1)  # what is kept from one plan to the next
    for nodes in sizes:
        with counted() as made:
            whole(tmp_path, nodes)
        calls.append(made.total())
    assert exponent(sizes, calls) < 1.1


def test_twice_the_nodes_are_twice_the_files_and_programs(tmp_path: Path) -> None:
    def rendered(nodes: int) -> tuple[int, int]:
        with counted() as made:
            whole(tmp_path, nodes)
        return made[Ini.render.__code__], made[script.program.__code__]

    one, two, three = (rendered(nodes) for nodes in (10, 20, 30))
    for number, (few, some, many) in enumerate(zip(one, two, three, strict=True)):
        assert many - some == some - few
        # of a compute node's files two have its address; a program for each stage with operations on it
        assert some - few == 10 * (2, 6)[number]


@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/neutron/neutron.conf", "/etc/neutron/plugins/ml2/ml2_conf.ini"])
def test_a_file_that_is_the_same_on_many_nodes_is_there_once(path: str, tmp_path: Path) -> None:
    made = whole(tmp_path, 5)
    contents = [f.content for i in range(5) for f in made.files(f"compute{i}") if f.path == path]
    assert len(contents) == 5
    assert len({id(content) for content in contents}) == 1


def test_memory_grows_with_the_nodes_not_with_their_square(tmp_path: Path) -> None:
    def peak(nodes: int) -> int:
        tracemalloc.start()
        try:
            whole(tmp_path, nodes)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    whole(tmp_path, 1)
    assert peak(200) <= 2.2 * peak(100)


def test_a_large_file_of_many_nodes_is_hashed_once() -> None:
    """/etc/hosts grows with the nodes, and each node has it."""
    large = File("/etc/hosts", "10.0.0.1 somewhere\n" * 5000)

    def digest(files: dict[str, File]) -> tuple[str, int]:
        revealed: list[int] = []
        stage = Stage("prepare", {node: (file,) for node, file in files.items()})
        return stage.digest(lambda text: revealed.append(len(text)) or text), sum(revealed)

    _, once = digest({"n0": large})
    same, bytes_ = digest({f"n{i}": large for i in range(50)})
    assert bytes_ < once + 50 * 2**14, "a node costs its program, not the file"
    other, _ = digest({f"n{i}": large if i else File(large.path, large.content + "#") for i in range(50)})
    assert same != other
