"""The fuzzer finds nothing in some hundred cases, and finds what is planted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import ROOT

from labctl.host import process

HERE = Path(__file__).parent


def fuzz(*words: str, check: bool = True) -> str:
    """What the fuzzer prints."""
    command = [sys.executable, HERE / "fuzz.py", *words]
    done = process.run(command, cwd=ROOT, timeout=300, check=check)
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["topology", "nightly", "box", "media"])
def test_damaged_and_hostile_files_are_only_refused(kind: str) -> None:
    assert " × " not in fuzz("-n", "60", "--seed", "21", "--kind", kind)
