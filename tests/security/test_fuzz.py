"""The fuzzer finds nothing in some hundred cases, and finds what is planted."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from support import ROOT

from labctl.host import process

HERE = Path(__file__).parent


def fuzz(*words: str, check: bool = True) -> str:
    """What the fuzzer prints."""
    command = [sys.executable, HERE / "fuzz.py", *words]
    done = process.run(command, cwd=ROOT, timeout=900, check=check)
    return done.stdout + done.stderr


def test_damaged_and_hostile_files_of_every_kind_are_only_refused() -> None:
    """A fixed sample over all kinds, in one run; ``make fuzz`` has more."""
    said = fuzz("-n", "500", "--seed", "21")
    assert " × " not in said, said
    for kind in ("box", "export", "media", "nightly", "state", "state, other", "topology"):
        assert re.search(rf"^{kind} +[1-9]", said, re.MULTILINE), said


def test_a_directory_in_the_place_of_a_layers_journal_is_no_bug() -> None:
    """An export that the fuzzer found."""
    said = fuzz("--seed", "99", "--case", "10")
    assert re.search(r"^export +1 +1 +0 +0 ", said, re.MULTILINE), said
