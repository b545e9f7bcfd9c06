"""Processes that labctl starts and knows again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl import process


def test_a_process_that_ended_is_not_running_even_before_it_is_reaped() -> None:
    """The engine starts machines from its own process, which does not wait for them."""
    child = process.start(["true"])
    try:
        assert wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
        assert process.start_time(child.pid) == ""
        assert process.start_time(os.getpid()) != ""
    finally:
        child.wait()


def wait_for(look: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not look() and time.monotonic() < deadline:
        time.sleep(0.01)
    return look()


def test_a_child_that_is_not_waited_for_any_more_is_ended() -> None:
    child = process.start(["sleep", "60"])

    def broken_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.follow(child, timeout=60, watch=broken_off)
    assert child.returncode == -signal.SIGINT
