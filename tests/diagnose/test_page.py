"""docs/troubleshooting.md is what the rows say, and its exercises exist."""

from __future__ import annotations

import subprocess

from support import ROOT, specify

from labctl.diagnose.breakages import BREAKAGES
from labctl.diagnose.page import page


def test_the_page_is_current() -> None:
    kept = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert kept == page(), "python -m labctl.diagnose.page > docs/troubleshooting.md"


def test_every_exercise_is_shell() -> None:
    spec = specify(ROOT / "topologies" / "zed-6node.yaml")
    for exercise in BREAKAGES:
        for shell in (exercise.shell, exercise.undo):
            text = exercise.program(spec, shell)
            assert subprocess.run(["sh", "-n"], input=text, text=True, timeout=30, check=False).returncode == 0, text
