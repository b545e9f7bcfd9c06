"""docs/troubleshooting.md is what the rows say, and its exercises exist."""

from __future__ import annotations

import subprocess

from support import ROOT, specify

from labctl.diagnose.breakages import BREAKAGES
from labctl.diagnose.page import page


def test_the_page_is_current() -> None:
    kept = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert kept == page(), "python -m labctl.diagnose.page > docs/troubleshooting.md"


def test_every_exercise_is_shell_and_fits_a_lab() -> None:
    specs = [specify(ROOT / "topologies" / "zed-6node.yaml", driver=driver) for driver in ("nspawn", "libvirt")]
    for exercise in BREAKAGES:
        fitting = [spec for spec in specs if exercise.nodes(spec)]
        assert fitting, exercise.name
        for shell in (exercise.shell, exercise.undo):
            text = exercise.program(fitting[0], shell)
            assert subprocess.run(["sh", "-n"], input=text, text=True, timeout=30, check=False).returncode == 0, text
