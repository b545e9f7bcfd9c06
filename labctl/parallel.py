"""The same work on several nodes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from labctl.errors import BrokenLabError, DeadlineError, LabError

T = TypeVar("T")


def side_by_side(function: Callable[[str], T], nodes: Iterable[str]) -> list[Future[T]]:
    """Call a function for each node, all at once, and return when all have ended.

    ^C does not wait for them: what they do is safe to repeat.
    """
    names = list(nodes)
    if not names:
        return []
    pool = ThreadPoolExecutor(len(names))
    try:
        waiting = [pool.submit(function, name) for name in names]
        wait(waiting)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return waiting


def on_each(function: Callable[[str], T], nodes: Iterable[str]) -> list[T]:
    """Call a function for each node, all at once, and return what they return.

    :raises LabError: it failed for some; tells of all of them.
    """
    return results(side_by_side(function, nodes))


def results(waiting: Sequence[Future[T]]) -> list[T]:
    """What :func:`side_by_side` came to.

    :raises LabError: some of it failed; the message is that of every failure, and so is the hint.
    """
    failed = [error for future in waiting if (error := future.exception()) is not None]
    if not failed:
        return [future.result() for future in waiting]
    told = [error for error in failed if isinstance(error, LabError)]
    strange = [error for error in failed if not isinstance(error, LabError)]
    if strange:  # a bug; its report has the rest too
        for error in told:
            strange[0].add_note(error.message)
        raise strange[0]
    if len(told) == 1:
        raise told[0]
    kind = next(k for k in (DeadlineError, BrokenLabError, LabError) if all(isinstance(e, k) for e in told))
    messages = dict.fromkeys(error.message for error in told)
    hints = dict.fromkeys(part.strip() for error in told for part in error.hint.split(";") if part)
    raise kind("\n".join(messages), "; ".join(hints)) from told[0]
