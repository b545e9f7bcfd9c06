"""The how-to pages are followed, step by step, in a copy of the project: what they show is what happens.

A fenced block whose first line names a file is written there, ``diff`` is applied, and of ``console`` each line
after ``$`` is run; the lines below it must be found in what it printed, word by word. ``sh`` needs a machine or the
internet, and is not run.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import ROOT

from labctl.host import process

PAGES = ("add-a-release", "add-a-service", "add-a-driver")
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Copy:
    """A copy of the project in which a page's commands find it instead of the checkout."""

    root: Path

    def run(self, command: str) -> str:
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))},
            **{"PATH": path, "PYTHONPATH": str(self.root), "LABCTL_HOME": str(self.root / "home"), "COLUMNS": "400"},
        }
        done = process.run(["sh", "-c", command], cwd=self.root, env=environment, timeout=300, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    root = tmp_path / "project"
    ignored = shutil.ignore_patterns(".venv", ".git", ".hypothesis", "__pycache__", "golden", "artifacts")
    shutil.copytree(ROOT, root, ignore=ignored)
    (root / "bin").mkdir()
    for name, module in (("labctl", "labctl"), ("pytest", "pytest -p no:cacheprovider")):
        (root / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (root / "bin" / name).chmod(0o755)
    return Copy(root)


def words(line: str) -> str:
    return " ".join(line.split())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(page: str, copy: Copy) -> None:
    for kind, name, text in _BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text()):
        if name:
            (copy.root / name).write_text(text)
        elif kind == "diff":
            process.run(["git", "apply"], cwd=copy.root, stdin=text)
        elif kind == "console":
            for part in text.split("$ ")[1:] if text.startswith("$ ") else pytest.fail(f"{page}: no command: {text}"):
                command, *shown = part.strip().splitlines()
                said = words(copy.run(command))
                assert [line for line in shown if words(line) not in said] == [], f"{command}\n{said[-3000:]}"


def test_a_release_is_short_enough_for_its_page() -> None:
    (text,) = (t for _, name, t in _BLOCK.findall((ROOT / "docs/add-a-release.md").read_text()) if name)
    assert len(text.splitlines()) < 30


def test_a_service_that_leaves_an_answer_out_says_which(copy: Copy) -> None:
    (copy.root / "labctl/services/short.py").write_text(
        "from labctl.services.base import Chapter\n\n\nclass Short(Chapter):\n    name = 'short'\n    components = ()\n"
    )
    said = copy.run(f"{sys.executable} -c 'import labctl.services.short'")
    assert "the service Short does not define its words" in said


def test_a_base_that_leaves_a_component_out_says_which(copy: Copy) -> None:
    path = copy.root / "labctl/bases/debian.py"
    path.write_text(path.read_text().replace('    C.HEAT: ("heat-api", "heat-api-cfn", "heat-engine"),\n', ""))
    assert "the base debian12 (debian) names no packages for heat" in copy.run(
        f"{sys.executable} -m labctl plan zed-2node"
    )
