"""labctl killed thirty times at random moments: no lab is stuck, nothing is lost, nothing is left."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Home
from torture import HEAD, Torture, line, summary

from labctl.host import process

ROUNDS = int(os.environ.get("TORTURE", "30"))

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="real labs need root"),
    pytest.mark.skipif(bool(process.missing("systemd-nspawn")), reason="needs systemd-nspawn"),
]


def test_killed_anywhere_labctl_goes_on_or_leaves_nothing(tmp_path: Path, tell: Callable[[str], None]) -> None:
    home, seed = Home(tmp_path / "home"), int(time.time())
    said = [f"seed {seed}", HEAD]
    try:
        made = Torture(home, random.Random(seed)).run(ROUNDS, lambda r: said.append(line(r)))
        said.append(summary(made))
    finally:
        home.clear()
        tell("\n".join(said))
    wrong = [f"round {r.number}, {r.command}, killed {r.killed}: {r.wrong}" for r in made if r.wrong]
    assert wrong == [], f"seed {seed}"
    assert sum(r.killed is not None for r in made) >= ROUNDS * 0.6, "most commands ended before they were killed"
