"""Work that may never end: it runs in a thread that nobody has to join, and is waited for with a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from labctl.errors import DeadlineError

T = TypeVar("T")


def started(work: Callable[[], T]) -> Future[T]:
    """Run something in a daemon thread, which never keeps the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="labctl-background").start()
    return future


def result(future: Future[T], seconds: float) -> T:
    """The result of :func:`started`, or its error.

    :raises DeadlineError: it has not ended within so many seconds; it goes on.
    """
    wait([future], timeout=seconds)
    if not future.done():
        raise DeadlineError(f"no end after {seconds:g} s")
    return future.result()


def ended(future: Future[T], seconds: float) -> None:
    """Wait until :func:`started` work has ended, well or not, but no longer than so many seconds."""
    wait([future], timeout=seconds)


def collected(future: Future[str], seconds: float) -> str:
    """The text of :func:`started`, or in one line why there is none."""
    try:
        return result(future, seconds)
    except DeadlineError as error:
        return f"(not captured: {error.message})\n"
    except Exception as error:  # whatever it was belongs where the text would be
        return f"(not captured: {type(error).__name__}: {error})\n"
