"""The shell's completion: names of labs, nodes, snapshots and topologies, by the program that the shell starts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from commandline import Labctl
from support import ROOT, SMALL, write

from labctl.drivers.fake import Fake
from labctl.host import process


@pytest.fixture
def labs(fake: Fake, labctl: Labctl, tmp_path: Path) -> None:
    """Two labs, of which one has a snapshot."""
    path = write(tmp_path, SMALL)
    for name in ("small", "smaller"):
        assert labctl("up", path, "--name", name)[0] == 0
    assert labctl("snapshot", "create", "small", "ready")[0] == 0


def completed(line: str, **variables: str) -> list[str]:
    """What bash is offered at the end of a command line."""
    words = line.split(" ")
    env = {**os.environ, "_LABCTL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['labctl']; from labctl.__main__ import main; main()"
    done = process.run([sys.executable, "-c", code], env={**env, **variables}, check=False)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("labctl status ", ["small", "smaller"]),
        ("labctl down smalle", ["smaller"]),
        ("labctl ssh small ", ["first", "second"]),
        ("labctl ssh small se", ["second"]),
        ("labctl ssh nowhere ", []),
        ("labctl snapshot restore small ", ["ready"]),
        ("labctl snapshot delete smaller ", []),
        ("labctl up zed-2", ["zed-2node"]),
        ("labctl graph s", ["small", "smaller"]),
        ("labctl inventory small --host f", ["first"]),
        ("labctl forw", ["forward"]),
    ],
)
@pytest.mark.usefixtures("labs")
def test_names_are_completed(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


@pytest.mark.usefixtures("labs")
def test_labs_of_another_machine_are_not_mistaken_for_these() -> None:
    assert completed("labctl status ", LABCTL_HOST="ssh://user@machine") == []
    assert completed("labctl up zed-2", LABCTL_HOST="ssh://user@machine") == ["zed-2node"]


@pytest.mark.usefixtures("labs")
def test_a_damaged_record_completes_nothing(home: Path) -> None:
    (home / "labs" / "small" / "lab.json").write_text(json.dumps([1]))
    assert completed("labctl ssh small ") == []
    (home / "labs" / "small" / "lab.json").write_text("{")
    assert completed("labctl ssh small ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_a_shell(shell: str, tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "labctl", "--install-completion", shell]
    process.run(command, env=env, cwd=ROOT)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("LABCTL_COMPLETE" in text for text in written)
