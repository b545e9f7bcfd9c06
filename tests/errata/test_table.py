"""docs/errata.md: every mistake that breaks an install, or is silently without effect, has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support import ROOT

FACTS = ROOT / "docs" / "facts" / "seed-errata.md"
TABLE = ROOT / "docs" / "errata.md"
HERE = Path(__file__).parent
HEAD = """# Mistakes of the notes and the tests that keep them out

Every item of [facts/seed-errata.md](facts/seed-errata.md) whose kind is "break" or "silent", and the test in
tests/errata that fails when an installed lab would have it. Made by `pytest tests/errata --update-golden`.

| item | in the notes | test |
|---|---|---|
"""


def items() -> dict[str, str]:
    """Number -> fragment of every item that breaks or is silent."""
    found = {}
    for line in FACTS.read_text().splitlines():
        cells = re.split(r"(?<!\\) \| ", line.strip().removeprefix("| ").removesuffix(" |"))
        if len(cells) >= 4 and re.fullmatch(r"\d+-\d+", cells[0]) and re.search(r"break|silent", cells[2]):
            found[cells[0]] = cells[1]
    return found


def named_tests() -> dict[str, tuple[str, str]]:
    """Number -> name and first line of the test that names it."""
    found = {}
    for path in sorted(HERE.glob("test_errata_*.py")):
        for item in ast.parse(path.read_text()).body:
            if isinstance(item, ast.FunctionDef) and (named := re.match(r"test_errata_(\d+)_(\d+)_", item.name)):
                number = f"{named[1]}-{named[2]}"
                assert number not in found, f"two tests for {number}"
                found[number] = (f"{path.name}::{item.name}", (ast.get_docstring(item) or "").partition("\n")[0])
    return found


def test_every_break_and_every_silent_item_has_a_test() -> None:
    assert len(items()) > 60
    assert set(items()) - set(named_tests()) == set()
    assert set(named_tests()) - set(items()) == set()
    assert all(why for _, why in named_tests().values())


def test_the_table_is_current(request: pytest.FixtureRequest) -> None:
    named, rows = named_tests(), []
    for number, fragment in items().items():
        name, why = named[number]
        rows.append(f"| {number} | {fragment} | `{name}`: {why} |")
    text = HEAD + "\n".join(rows) + "\n"
    if request.config.getoption("--update-golden"):
        TABLE.write_text(text)
    assert TABLE.read_text() == text, "pytest tests/errata --update-golden"
