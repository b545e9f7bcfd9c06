"""Waiting for something remote: always with a deadline, never past a state that cannot get better."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from labctl.errors import DeadlineError, LabError
from labctl.host.polling import pause

T = TypeVar("T")
SHOWN = 2000  # characters of the last thing seen
_patience = 1.0


def be_patient(factor: float) -> None:
    """From now on deadlines and the intervals of waits are so many times longer: the lab's machines are slower."""
    global _patience
    _patience = factor


def patient(seconds: float) -> float:
    """A time on the lab under test, from one on machines that are not slower than the host."""
    return seconds * _patience


class FailedStateError(LabError):
    """What was waited for has failed for good; the message says how."""


def shortened(value: object, limit: int = SHOWN) -> str:
    """The end of a value as text: what was seen last matters most."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else "…" + text[-limit:]


def _never(_: object) -> str | None:
    return None


def wait_for(
    what: str,
    probe: Callable[[], T],
    done: Callable[[T], object],
    failed: Callable[[T], str | None] = _never,
    deadline: float = 60,
    interval: float = 1,
    *,
    show: Callable[[T], str] = shortened,
) -> T:
    """Probe until ``done`` holds and return what was seen then.

    The probe runs at least once, and once more when the time is up, so that a slow last probe is not
    thrown away. An exception of the probe ends the wait: a probe that may fail says so in its value.

    :param what: completes "waiting for …".
    :param failed: the reason why this can never become done, or None.
    :param deadline: seconds, on machines that are not slower than the host.
    :param interval: seconds between two probes, likewise; more where a probe takes long. Each question takes time
        from its own answer: nova asks neutron twice to tell how a server is.
    :param show: how the last thing seen is put in the message.
    :raises FailedStateError: at once when ``failed`` gives a reason.
    :raises DeadlineError: not done in time; the message shows the last thing seen.
    """
    deadline, interval = patient(deadline), patient(interval)
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        late = asked - began >= deadline
        seen = probe()
        if done(seen):
            return seen
        reason = failed(seen)
        if reason:
            raise FailedStateError(f"{what}: failed after {time.monotonic() - began:.0f} s: {reason}")
        if late:
            raise DeadlineError(f"{what}: not after {deadline:g} s; last seen: {show(seen)}")
        now = time.monotonic()
        time.sleep(max(0.0, min(pause(now - asked, interval), deadline - (now - began))))
