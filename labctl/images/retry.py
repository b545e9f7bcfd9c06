"""Foreign programs fail for a moment: mirrors restart, package scripts race. What they do is tried again, and told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from labctl.errors import DeadlineError, LabError
from labctl.host.process import CommandError
from labctl.progress import warn

T = TypeVar("T")
#: How often something is tried in all, and the seconds between: twice as many each time.
ATTEMPTS, PAUSE = 3, 2.0
#: What no repetition mends.
_FINAL = ("no space left on device", "read-only file system")


class MomentaryError(LabError):
    """A failure of a site that may be over when it is asked again."""


def first_line(error: BaseException) -> str:
    """What failed and why, without the log that follows it."""
    return (error.message if isinstance(error, LabError) else str(error)).partition("\n")[0]


def final(error: BaseException) -> bool:
    """True for a failure that would only repeat itself: no room, or one of labctl's own making."""
    if not isinstance(error, CommandError | DeadlineError | MomentaryError):
        return True
    return any(words in first_line(error).lower() for words in _FINAL)


def again(work: Callable[[], T], *, mend: Callable[[LabError], None] = lambda error: None) -> T:
    """Do some foreign program's work, up to :data:`ATTEMPTS` times; each repetition and its reason are told.

    :param mend: called before a repetition with the error: what may have gone stale is brought up to date there.
    :raises LabError: the last failure.
    """

    def told(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, LabError)
        warn("image", f"{first_line(error)}; trying again ({state.attempt_number + 1} of {ATTEMPTS})")
        mend(error)

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=PAUSE),
        retry=tenacity.retry_if_exception(lambda error: not final(error)),
        before_sleep=told,
        reraise=True,
    )
    return attempts(work)
