"""The estate's stack: the one that is there is updated and deleted, whichever hop has made it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.records.access import Access
from labctl.testing import stacks
from labctl.upgrade.estate import NAME, Estate, Record


@pytest.fixture
def heat(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stacks by id, each with its name."""
    known: dict[str, str] = {"other": "someone's"}

    def create(_: Any, name: str, template: Any) -> str:
        known[f"id-{name}"] = name
        return f"id-{name}"

    monkeypatch.setattr(stacks, "create", create)
    monkeypatch.setattr(stacks, "wait", lambda *_: None)
    monkeypatch.setattr(stacks, "update", lambda _, stack, template: known[stack])
    monkeypatch.setattr(stacks, "delete", lambda _, stack: known.pop(stack))
    listed = SimpleNamespace(stacks=lambda: [SimpleNamespace(id=key, name=name) for key, name in known.items()])
    monkeypatch.setattr(Estate, "_connection", SimpleNamespace(orchestration=listed))
    return known


def looked_at(place: Path, stack: str) -> tuple[str | None, Record]:
    record = Record(name="x", project="p", ids={}, address="", fixed="", sums={}, rules=0, stack=stack)
    return Estate(place, cast(Access, None))._stack_lives(record), record


def test_it_is_deleted_and_the_next_one_made(heat: dict[str, str], tmp_path: Path) -> None:
    heat["mine"] = f"{NAME}-1"
    problem, record = looked_at(tmp_path, "mine")
    assert problem is None
    assert set(heat) == {"other", record.stack}


def test_of_a_restored_lab_it_is_the_one_of_that_time(heat: dict[str, str], tmp_path: Path) -> None:
    """The record names what a later hop had made, which went with the restore."""
    heat["of-that-time"] = f"{NAME}-1"
    problem, record = looked_at(tmp_path, "made-by-a-hop-that-was-taken-back")
    assert problem is None
    assert set(heat) == {"other", record.stack}


def test_a_lost_one_is_named(heat: dict[str, str], tmp_path: Path) -> None:
    assert looked_at(tmp_path, "lost")[0] == "is gone"
    assert set(heat) == {"other"}
