"""Work with a deadline: late work is left behind, and its error is told where its result would be."""

from __future__ import annotations

import threading
import time

import pytest

from labctl.errors import DeadlineError
from labctl.host.threads import collected, result, started


def test_a_result_is_waited_for() -> None:
    assert result(started(lambda: [1, 2]), 5) == [1, 2]


def test_late_work_is_left_behind() -> None:
    leave = threading.Event()
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"timed out after 0\.1 s"):
        result(started(leave.wait), 0.1)
    assert time.monotonic() - began < 5
    leave.set()


def test_an_error_is_raised_where_the_result_is_asked_for() -> None:
    def broken() -> str:
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        result(started(broken), 5)
    assert collected(started(broken), 5) == "(not captured: OSError: no route)\n"
