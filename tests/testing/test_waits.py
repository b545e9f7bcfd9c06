"""Waits: done, failed at once, out of time with the last thing seen."""

from __future__ import annotations

import time

import pytest

from labctl.errors import DeadlineError
from labctl.testing.waits import FailedStateError, wait_for


def test_returns_what_was_seen_when_it_is_done():
    seen = iter(["BUILD", "BUILD", "ACTIVE"])
    assert wait_for("x", lambda: next(seen), lambda s: s == "ACTIVE", interval=0) == "ACTIVE"


def test_fails_at_once_with_the_reason_of_the_failed_state():
    began = time.monotonic()
    with pytest.raises(FailedStateError, match="server: failed after 0 s: no valid host"):
        wait_for(
            "server",
            lambda: "ERROR",
            done=lambda s: s == "ACTIVE",
            failed=lambda s: "no valid host" if s == "ERROR" else None,
            deadline=60,
        )
    assert time.monotonic() - began < 5


def test_out_of_time_shows_the_last_thing_seen():
    with pytest.raises(DeadlineError, match=r"router: timed out after 0.05 s; last seen: 'DOWN'|last seen: DOWN"):
        wait_for("router", lambda: "DOWN", lambda s: s == "ACTIVE", deadline=0.05, interval=0.01)


def test_out_of_time_shows_it_as_the_caller_wants():
    with pytest.raises(DeadlineError, match="last seen: status 7"):
        wait_for("x", lambda: 7, lambda _: False, deadline=0, show=lambda seen: f"status {seen}")


def test_probes_once_more_when_the_time_is_up():
    began = time.monotonic()
    assert wait_for(
        "x", lambda: time.monotonic() - began, lambda s: s >= 0.05, deadline=0.05, interval=10
    ) == pytest.approx(0.05, abs=0.5)


def test_probes_at_least_once_without_any_time():
    assert wait_for("x", lambda: 1, lambda s: s == 1, deadline=0) == 1


def test_done_wins_over_failed():
    assert wait_for("x", lambda: 1, lambda _: True, failed=lambda _: "never") == 1


def test_long_values_are_cut_at_the_front():
    with pytest.raises(DeadlineError) as caught:
        wait_for("console", lambda: "a" * 9000 + "end", lambda _: False, deadline=0)
    assert str(caught.value).endswith("aend")
    assert len(str(caught.value)) < 2200


def test_an_error_of_the_probe_ends_the_wait():
    with pytest.raises(ZeroDivisionError):
        wait_for("x", lambda: 1 / 0, lambda _: True, deadline=60)


def test_a_slow_probe_is_not_repeated_at_once(monkeypatch):
    clock, probes = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))

    def slow():
        probes.append(clock[0])
        clock[0] += 5
        return clock[0]

    wait_for("x", slow, lambda seen: seen > 60, deadline=100, interval=1)
    assert probes == [0, 10, 20, 30, 40, 50, 60]
