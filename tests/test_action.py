"""The GitHub action: what GitHub takes for one, and what its steps do."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT

from labctl.host import process

#: A labctl that writes down what it was asked, has a clouds.yaml, and fails for one topology.
LABCTL = """#!/bin/sh
for word; do printf '<%s>' "$word" >>"$ASKED"; done
echo >>"$ASKED"
[ "$2" != broken ] || exit 1
if [ "$1" = exec ]; then shift 3; OS_CLIENT_CONFIG_FILE=$CLOUDS exec "$@"; fi
"""


@pytest.fixture
def action() -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((ROOT / "action.yml").read_text())
    return found


def test_github_takes_it_for_an_action() -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions", ROOT / "action.yml"]
    process.run(words, timeout=120)


def test_every_input_reaches_a_step_and_every_output_comes_from_one(
    action: dict[str, dict[str, dict[str, object]]],
) -> None:
    text = (ROOT / "action.yml").read_text()
    assert [name for name in action["inputs"] if f"${{{{ inputs.{name} }}}}" not in text] == []
    script = (ROOT / "tools/ci-cloud").read_text()
    assert [name for name in action["outputs"] if f"{name}=%s" not in script] == []


@pytest.fixture
def run(tmp_path: Path) -> dict[str, str]:
    """The environment of a job."""
    (tmp_path / "bin").mkdir()
    labctl = tmp_path / "bin/labctl"
    labctl.write_text(LABCTL)
    labctl.chmod(0o755)
    (tmp_path / "bin/sudo").write_text('#!/bin/sh\n[ "$1" != -E ] || shift\nexec "$@"\n')
    (tmp_path / "bin/sudo").chmod(0o755)
    (tmp_path / "theirs.yaml").write_text("clouds: {}\n")
    return {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "ASKED": str(tmp_path / "asked"),
        "CLOUDS": str(tmp_path / "theirs.yaml"),
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }


def up(environment: dict[str, str], **inputs: str) -> int:
    return process.run([ROOT / "tools/ci-cloud", "up"], env={**environment, **inputs}, check=False).returncode


@pytest.mark.parametrize(
    ("inputs", "asked", "lab"),
    [
        ({"TOPOLOGY": "zed-2node"}, "<up><zed-2node><--name><zed-2node>", "zed-2node"),
        ({"TOPOLOGY": "labs/my own.yaml", "NAME": "mine"}, "<up><labs/my own.yaml><--name><mine>", "mine"),
        (
            {"TOPOLOGY": "labs/own.yaml", "RELEASE": "train", "SNAPSHOT": "https://e.org/a b"},
            "<up><labs/own.yaml><--name><own><--release><train><--from><https://e.org/a b>",
            "own",
        ),
    ],
)
def test_a_lab_is_brought_up_and_said_where(
    inputs: dict[str, str], asked: str, lab: str, run: dict[str, str], tmp_path: Path
) -> None:
    assert up(run, **{"RELEASE": "", "SNAPSHOT": "", "NAME": "", **inputs}) == 0
    assert (tmp_path / "asked").read_text().splitlines()[0] == asked
    said = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert said["lab"] == lab
    clouds = Path(said["clouds"])
    assert clouds.read_text() == "clouds: {}\n"
    assert stat.S_IMODE(clouds.stat().st_mode) == 0o600


def test_a_lab_that_does_not_come_up_ends_the_job(run: dict[str, str], tmp_path: Path) -> None:
    assert up(run, TOPOLOGY="broken") == 1
    assert not (tmp_path / "output").exists()
