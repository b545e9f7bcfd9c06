"""Wait for something remote, always with a deadline; stop at once in a state that is final."""

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
    """Multiply deadlines and poll intervals by a factor from now on: the lab's machines are slower than the host."""
    global _patience
    _patience = factor


def patient(seconds: float) -> float:
    """A time for the lab under test, from a time for machines as fast as the host."""
    return seconds * _patience


class FailedStateError(LabError):
    """The awaited thing has failed for good; the message says how."""


def shortened(value: object, limit: int = SHOWN) -> str:
    """The end of a value as text: the last part matters most."""
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
    """Probe until ``done`` holds and return the last value.

    The probe runs at least once, and once more when the time is up, so that a slow last probe still counts. An
    exception of the probe ends the wait: a probe that may fail returns its error as a value.

    :param what: completes "waiting for …".
    :param failed: why this can never become done, or None.
    :param deadline: seconds, for machines as fast as the host.
    :param interval: seconds between two probes, likewise; longer after a slow probe. Polling itself delays the result:
        nova asks neutron twice for a server's state.
    :param show: formats the last value for the message.
    :raises FailedStateError: at once when ``failed`` gives a reason.
    :raises DeadlineError: timed out; the message shows the last value.
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
            raise DeadlineError(f"{what}: timed out after {deadline:g} s; last seen: {show(seen)}")
        now = time.monotonic()
        time.sleep(max(0.0, min(pause(now - asked, interval), deadline - (now - began))))
