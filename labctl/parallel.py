"""The same work on several nodes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

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
