"""The files that start nights by themselves."""

from __future__ import annotations

import pytest
from support import ROOT

from labctl.host import process

TOOLS = ROOT / "tools" / "nightly"


@pytest.mark.skipif(bool(process.missing("systemd-analyze")), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units() -> None:
    done = process.run(["systemd-analyze", "verify", "--man=no", *sorted(TOOLS.glob("*.*er*"))], check=False)
    said = [line for line in done.stderr.splitlines() if "labctl-nightly" in line and "not executable" not in line]
    assert said == []
    done = process.run(["systemd-analyze", "calendar", "*-*-* 01:30"])
    assert "Next elapse" in done.stdout


def test_the_cron_line_has_time_user_and_command() -> None:
    line = (TOOLS / "labctl-nightly.cron").read_text().splitlines()[-1].split(maxsplit=6)
    assert line[:6] == ["30", "1", "*", "*", "*", "root"]
    assert "labctl nightly run --continue" in line[6]
