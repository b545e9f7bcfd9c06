"""The errors labctl raises on purpose.

Library code raises; only ``labctl.__main__`` turns an error into an exit status.
"""

from __future__ import annotations

#: Status of a test run that ended before its first test, because the lab itself does not work.
BROKEN = 3


class LabError(Exception):
    """Something the user can act on: what happened, where, and the next command to type.

    :param message: what failed and where, one sentence or a few lines.
    :param hint: what to do or type next; empty when the message already says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DeadlineError(LabError):
    """A wait ran out of time. The message carries the last thing seen."""


class BrokenLabError(LabError):
    """The lab itself is not in a state in which the request makes sense."""
