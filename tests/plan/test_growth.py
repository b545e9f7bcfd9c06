"""A plan's work grows with the number of nodes, not with its square (../shared/cases/22)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

from support import ROOT, specify, write

from labctl.plan.planner import plan
from labctl.services.base import Context

sys.path.insert(0, str(ROOT / "bench"))
from plan_scale import exponent, topology


def calls(directory: Path, nodes: int) -> int:
    """How many functions are called to plan a lab of that many compute nodes."""
    context = Context.of(specify(write(directory, topology(nodes))))
    plan(context)  # what is kept from one plan to the next
    made = 0

    def count(_: FrameType, event: str, __: Any) -> None:
        nonlocal made
        made += event == "call"

    sys.setprofile(count)
    try:
        plan(context)
    finally:
        sys.setprofile(None)
    return made


def test_a_plan_grows_with_the_nodes_not_with_their_square(tmp_path: Path) -> None:
    sizes = [50, 100, 200]
    assert exponent(sizes, [calls(tmp_path, nodes) for nodes in sizes]) < 1.1
