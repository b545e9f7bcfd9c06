"""The limit that all containers share is high enough for those that there are, and afterwards as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.host import limits
from labctl.progress import Event, subscribed


@pytest.fixture(autouse=True)
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's file, with its default."""
    made = tmp_path / "max_user_instances"
    made.write_text("128\n")
    monkeypatch.setattr(limits, "INSTANCES", made)
    monkeypatch.setattr(limits, "BEFORE", tmp_path / "run" / "max_user_instances")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(limits, "_set", made.write_text)
    return made


def test_a_few_machines_need_no_more_than_the_host_has(limit: Path) -> None:
    limits.admit(8)
    limits.restore(0)
    assert limit.read_text() == "128\n"


def test_it_is_raised_as_machines_come_said_and_set_back_when_none_is_left(limit: Path) -> None:
    events: list[Event] = []
    with subscribed(events.append):
        limits.admit(20)
        limits.admit(19)
        limits.admit(21)
    assert limit.read_text() == "232"
    assert [event.text.partition(":")[0] for event in events] == [
        "fs.inotify.max_user_instances is 224 now, was 128",
        "fs.inotify.max_user_instances is 232 now, was 224",
    ]
    limits.restore(1)
    assert limit.read_text() == "232"
    limits.restore(0)
    limits.restore(0)
    assert limit.read_text() == "128"


def test_who_has_set_it_higher_is_left_alone(limit: Path) -> None:
    limit.write_text("8192")
    limits.admit(100)
    limits.restore(0)
    assert limit.read_text() == "8192"
