"""The fuzzer finds nothing in some hundred cases, and finds what is planted."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import fuzz as fuzz_program
import pytest
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


@pytest.mark.parametrize(("number", "lines"), [(500, []), (600, ["2 of 600", "4 of 600"])])
def test_a_long_run_says_how_far_it_is(capsys: pytest.CaptureFixture[str], number: int, lines: list[str]) -> None:
    made = [fuzz_program.Case(n, "box", "x", "crashed" if n == 3 else "refused", 1.0) for n in range(5)]
    times = iter(range(0, 120, 20))
    assert list(fuzz_program.told(iter(made), number, lambda: next(times))) == made
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" cases")[0] for line in said] == lines
    if lines:
        assert said == ["2 of 600 cases, 0 failed, about 199 min left", "4 of 600 cases, 1 failed, about 199 min left"]


@pytest.mark.parametrize("case", ["99:10", "393197:1650", "393197:1741"])
def test_what_the_fuzzer_has_found_is_refused(case: str) -> None:
    """A layer's journal that is a directory, a header that is nested deeply, a journal of a terabyte."""
    seed, number = case.split(":")
    said = fuzz("--seed", seed, "--case", number)
    assert " × " not in said, said
