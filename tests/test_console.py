"""What a person sees while something runs: lines, a bar on a terminal, and a word at least every half minute."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from labctl.commands import console
from labctl.progress import Event, Kind, Meter, emit, step, subscribed


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    sink = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=sink, highlight=False, soft_wrap=True, width=200))
    return sink.getvalue


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    sink = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=sink, force_terminal=True, soft_wrap=True, width=200))
    return sink.getvalue


def eventually(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_long_step_is_told_again_with_how_far_it_is(
    printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "AGAIN", 0.2)
    with console.progress(), step("image", "install packages"):
        emit(Event(Kind.PROGRESS, "image", "Unpacking nova-common", share=0.42, left=100))
        eventually(lambda: "so far" in printed())
    told = next(line for line in printed().splitlines() if "so far" in line)
    assert "install packages: " in told
    assert "42%, Unpacking nova-common, about 2 min left" in told


def test_progress_alone_prints_nothing(printed: Callable[[], str]) -> None:
    with console.progress(), step("image", "install packages"):
        before = printed()
        emit(Event(Kind.PROGRESS, "image", "Unpacking nova-common", share=0.42))
        assert printed() == before


def test_what_was_told_of_a_step_ends_with_it(printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "AGAIN", 0.2)
    with console.progress():
        with step("image", "first"):
            emit(Event(Kind.PROGRESS, "image", "Unpacking nova-common", share=0.42))
        with step("image", "second"):
            eventually(lambda: "so far" in printed())
    assert "nova-common" not in next(line for line in printed().splitlines() if "so far" in line)


def test_a_terminal_shows_a_bar_and_an_estimate(terminal: Callable[[], str]) -> None:
    with console.progress(), step("image", "install packages"):
        emit(Event(Kind.PROGRESS, "image", "Unpacking [nova]", share=0.5, left=30))
        eventually(lambda: "50%, Unpacking [nova], about 30 s left" in terminal())
    assert "━" * 12 in terminal()


def test_an_estimate_waits_until_something_can_be_said() -> None:
    events: list[Event] = []
    with subscribed(events.append):
        meter = Meter("image")
        meter("first", 0.01)
        meter("too soon", 0.02)
        meter._began -= 10
        meter._told -= 10
        meter("later", 0.5)
    assert [e.text for e in events] == ["first", "later"]
    assert events[0].left is None
    assert events[1].left == pytest.approx(10, abs=1)
