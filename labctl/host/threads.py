"""Work in threads: the same on several nodes in parallel, and work that may never end, with a deadline."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from labctl.errors import BrokenLabError, DeadlineError, LabError

T = TypeVar("T")


def started(work: Callable[[], T]) -> Future[T]:
    """Run a function in a daemon thread, which never keeps the process from exiting."""
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

    :raises DeadlineError: it timed out after that many seconds; it keeps running.
    """
    wait([future], timeout=seconds)
    if not future.done():
        raise DeadlineError(f"timed out after {seconds:g} s")
    return future.result()


def ended(future: Future[T], seconds: float) -> None:
    """Wait until :func:`started` work has ended, successfully or not, for at most that many seconds."""
    wait([future], timeout=seconds)


def collected(future: Future[str], seconds: float) -> str:
    """The text of :func:`started`, or one line that says why it is missing."""
    try:
        return result(future, seconds)
    except DeadlineError as error:
        return f"(not captured: {error.message})\n"
    except Exception as error:  # any error is reported in place of the text
        return f"(not captured: {type(error).__name__}: {error})\n"


# --- on several nodes in parallel ------------------------------------------------------------------


def side_by_side(function: Callable[[str], T], nodes: Iterable[str], at_once: int = 0) -> list[Future[T]]:
    """Call a function for each node in parallel, and return when all have ended.

    ^C does not wait for them: their work is idempotent.

    :param at_once: call it for so many at a time; 0 for all.
    """
    names = list(nodes)
    if not names:
        return []
    pool = ThreadPoolExecutor(min(at_once or len(names), len(names)))
    try:
        waiting = [pool.submit(contextvars.copy_context().run, function, name) for name in names]
        wait(waiting)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return waiting


def on_each(function: Callable[[str], T], nodes: Iterable[str]) -> list[T]:
    """Call a function for each node in parallel, and return the results.

    :raises LabError: it failed for some nodes; reports all of them.
    """
    return results(side_by_side(function, nodes))


def results(waiting: Sequence[Future[T]]) -> list[T]:
    """The results of :func:`side_by_side`.

    :raises LabError: some calls failed; message and hint combine those of every failure.
    """
    failed = [error for future in waiting if (error := future.exception()) is not None]
    if not failed:
        return [future.result() for future in waiting]
    told = [error for error in failed if isinstance(error, LabError)]
    strange = [error for error in failed if not isinstance(error, LabError)]
    if strange:  # a bug; its report includes the other failures
        for error in told:
            strange[0].add_note(error.message)
        raise strange[0]
    if len(told) == 1:
        raise told[0]
    kind = next(k for k in (DeadlineError, BrokenLabError, LabError) if all(isinstance(e, k) for e in told))
    messages = dict.fromkeys(error.message for error in told)
    hints = dict.fromkeys(part.strip() for error in told for part in error.hint.split(";") if part)
    raise kind("\n".join(messages), "; ".join(hints)) from told[0]
