"""Retries for transient failures of external programs: mirrors restart, package scripts race."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from labctl.errors import DeadlineError, LabError
from labctl.host.process import CommandError
from labctl.progress import warn

T = TypeVar("T")
#: Total attempts, and seconds before the first retry, doubled each time.
ATTEMPTS, PAUSE = 3, 2.0
#: Permanent failures, which no retry fixes.
_FINAL = ("no space left on device", "read-only file system")


class MomentaryError(LabError):
    """A transient failure of a site."""


def first_line(error: BaseException) -> str:
    """What failed and why, without the log after it."""
    return (error.message if isinstance(error, LabError) else str(error)).partition("\n")[0]


def final(error: BaseException) -> bool:
    """True for a permanent failure: a full disk, or one of labctl's own errors."""
    if not isinstance(error, CommandError | DeadlineError | MomentaryError):
        return True
    return any(words in first_line(error).lower() for words in _FINAL)


def again(work: Callable[[], T], *, mend: Callable[[LabError], None] = lambda error: None) -> T:
    """Run an external program's work up to :data:`ATTEMPTS` times; each retry is reported with its reason.

    :param mend: called with the error before a retry, to refresh what may be stale.
    :raises LabError: the last failure.
    """

    def told(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, LabError)
        warn("image", f"{first_line(error)}; retrying ({state.attempt_number + 1} of {ATTEMPTS})")
        mend(error)

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=PAUSE),
        retry=tenacity.retry_if_exception(lambda error: not final(error)),
        before_sleep=told,
        reraise=True,
    )
    return attempts(work)
