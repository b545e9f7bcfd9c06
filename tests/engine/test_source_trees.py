"""Trees come to the nodes that use them, once; one that is gone from the store is named with what to do."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from labctl.engine import sources
from labctl.errors import LabError
from labctl.host import paths
from labctl.host.ssh import Result
from labctl.operations.source import SourceTree
from labctl.plan.planner import Stage


class Node:
    """A node that keeps what it is sent."""

    def __init__(self) -> None:
        self.whole: set[str] = set()
        self.sent: list[bytes] = []

    def run(self, command: str, *, timeout: float, stdin: bytes = b"") -> Result:
        place = command.split(" ")[-1].removesuffix("/whole")
        if not stdin:
            return Result(0 if place in self.whole else 1, "", "")
        self.whole.add(place)
        self.sent.append(stdin)
        return Result(0, "", "")


class Named:
    name = "lab"


def stage(*nodes: str) -> Stage:
    tree = SourceTree("nova", "source-nova-1", "/usr/bin/python3")
    return Stage("source", dict.fromkeys(nodes, (tree,)))


def test_a_tree_is_sent_whole_and_once_to_each_node_that_uses_it() -> None:
    place = paths.images() / "source-nova-1" / "tree" / "site" / "nova"
    place.mkdir(parents=True)
    (place / "api.py").write_text("here = 1\n")
    nodes = {name: Node() for name in ("first", "second", "third")}
    assert sources.bring(Named(), nodes, stage("first", "second")) == ["changed", "changed"]  # type: ignore[arg-type]
    assert sources.bring(Named(), nodes, stage("first", "second")) == ["ok", "ok"]  # type: ignore[arg-type]
    assert [len(node.sent) for node in nodes.values()] == [1, 1, 0]
    with tarfile.open(fileobj=io.BytesIO(nodes["first"].sent[0])) as packed:
        assert "./site/nova/api.py" in packed.getnames()


def test_a_tree_that_is_gone_from_the_store_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="the image source-nova-1 is gone") as caught:
        sources.bring(Named(), {"first": Node()}, stage("first"))  # type: ignore[arg-type, dict-item]
    assert caught.value.hint == "labctl source lab nova=release, or its tree again"
