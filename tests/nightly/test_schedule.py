"""The files that start nights by themselves."""

from __future__ import annotations

import pytest
import yaml
from support import ROOT

from labctl.host import process
from labctl.nightly import matrix as matrices

TOOLS = ROOT / "tools" / "nightly"


@pytest.mark.skipif(bool(process.missing("systemd-analyze")), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units() -> None:
    done = process.run(["systemd-analyze", "verify", "--man=no", *sorted(TOOLS.glob("*.*er*"))], check=False)
    said = [line for line in done.stderr.splitlines() if "labctl-nightly" in line and "not executable" not in line]
    assert said == []
    done = process.run(["systemd-analyze", "calendar", "*-*-* 01:30"])
    assert "Next elapse" in done.stdout


def test_the_matrix_of_the_workflow_is_one_and_is_what_it_runs() -> None:
    assert [cell.name for cell in matrices.load(TOOLS / "ci.yaml").cells] == ["zed-2node"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())
    steps = workflow["jobs"]["zed-2node"]["steps"]
    assert any("nightly run --file tools/nightly/ci.yaml" in step.get("run", "") for step in steps)


def test_the_cron_line_has_time_user_and_command() -> None:
    line = (TOOLS / "labctl-nightly.cron").read_text().splitlines()[-1].split(maxsplit=6)
    assert line[:6] == ["30", "1", "*", "*", "*", "root"]
    assert "labctl nightly run --continue" in line[6]
