"""Progress of everything a user waits for: steps emit events; console, log file or tests subscribe.

    with step("image", "install packages"):
        ...

A subscriber is a callable taking an :class:`Event`. The code that does the work prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Kind(StrEnum):
    """Kind of an event."""

    BEGIN = "begin"
    NOTE = "note"
    PROGRESS = "progress"
    WARN = "warn"
    END = "end"
    FAIL = "fail"


@dataclass(frozen=True)
class Event:
    """One line of progress. ``where`` is a node or ``lab``/``image``; ``seconds`` is set on END and FAIL.

    On PROGRESS ``text`` is the current item, ``share`` the completed share of the whole (0 to 1), ``left`` the
    estimated seconds remaining; each may be unknown.
    """

    kind: Kind
    where: str
    text: str
    seconds: float | None = None
    share: float | None = None
    left: float | None = None
    at: float = field(default_factory=time.time)


Subscriber = Callable[[Event], None]
_subscribers: list[Subscriber] = []
#: The part of a larger work that this thread does; empty outside of :func:`part`.
_part: ContextVar[str] = ContextVar("part", default="")


@contextmanager
def part(name: str) -> Iterator[None]:
    """Do one of several works that go on side by side.

    What is worth knowing of it is reported under its name, its own steps are not reported.
    """
    token = _part.set(name)
    try:
        yield
    finally:
        _part.reset(token)


def emit(event: Event) -> None:
    """Send an event to every subscriber."""
    if name := _part.get():
        if event.kind is not Kind.WARN:
            return
        event = replace(event, where=name, text=event.text if event.where == "lab" else f"{event.where}: {event.text}")
    for subscriber in tuple(_subscribers):
        subscriber(event)


def note(where: str, text: str) -> None:
    """Report something worth knowing while a step runs."""
    emit(Event(Kind.NOTE, where, text))


def warn(where: str, text: str) -> None:
    """Report something that needs attention, without stopping."""
    emit(Event(Kind.WARN, where, text))


def every(seconds: float) -> Callable[[], bool]:
    """Return a callable that is True at most once per interval, to limit the rate of messages."""
    said = time.monotonic()

    def due() -> bool:
        nonlocal said
        if time.monotonic() - said < seconds:
            return False
        said = time.monotonic()
        return True

    return due


class Meter:
    """Reports progress at most twice a second, with an estimate of the time left."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._began = time.monotonic()
        self._told = 0.0

    def __call__(self, text: str, share: float | None = None) -> None:
        """Report the current item and the completed share."""
        now = time.monotonic()
        if now - self._told < 0.5:
            return
        self._told = now
        spent = now - self._began
        # too early to estimate
        known = share is not None and share >= 0.05 and spent >= 3
        left = spent * (1 - share) / share if known and share else None
        emit(Event(Kind.PROGRESS, self._where, text, share=share, left=left))


@contextmanager
def step(where: str, text: str) -> Iterator[None]:
    """Report the begin of a piece of work and its duration, or its failure."""
    began = time.monotonic()
    emit(Event(Kind.BEGIN, where, text))
    try:
        yield
    except BaseException:
        emit(Event(Kind.FAIL, where, text, time.monotonic() - began))
        raise
    emit(Event(Kind.END, where, text, time.monotonic() - began))


@contextmanager
def subscribed(subscriber: Subscriber) -> Iterator[None]:
    """Deliver events to a subscriber inside the block."""
    _subscribers.append(subscriber)
    try:
        yield
    finally:
        _subscribers.remove(subscriber)
