"""labctl killed thirty times at random moments: no lab is stuck, nothing is lost, nothing is left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torture import HEAD, Round, line, summary, torture

from labctl.host import process

ROUNDS = int(os.environ.get("TORTURE", "30"))

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="real labs need root"),
    pytest.mark.skipif(bool(process.missing("systemd-nspawn", "mkfs.ext4")), reason="needs systemd-nspawn, mkfs.ext4"),
]


def test_killed_anywhere_labctl_goes_on_or_leaves_nothing(tmp_path: Path, tell: Callable[[str], None]) -> None:
    seed, made = int(time.time()), list[Round]()
    said = [f"seed {seed}", HEAD]
    try:
        made = torture(tmp_path, ROUNDS, seed, lambda r: said.append(line(r)))
        said.append(summary(made))
    finally:
        tell("\n".join(said))
    wrong = [f"round {r.number}, {r.command}, killed {r.killed}: {r.wrong}" for r in made if r.wrong]
    assert wrong == [], f"seed {seed}"
    assert sum(r.killed is not None for r in made) >= ROUNDS * 0.6, "most commands ended before they were killed"
