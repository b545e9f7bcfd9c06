"""The errors labctl raises on purpose.

Library code raises; only ``labctl.__main__`` turns an error into an exit status.
"""

from __future__ import annotations

#: Exit status of a test run that stopped before its first test because the lab is broken.
BROKEN = 3


class LabError(Exception):
    """An error the user can act on: what failed, where, and the next command to run.

    :param message: what failed and where, one sentence or a few lines.
    :param hint: what to do or run next; empty when the message already says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NoSpaceError(LabError):
    """A file system is full; whoever prints this adds what would free how much."""


class RefusedError(LabError):
    """The request does not fit what is there; nothing was touched, so there is nothing to diagnose."""


class DeadlineError(LabError):
    """A wait timed out. The message contains the last observed state."""


class BrokenLabError(LabError):
    """The lab is not in a state that allows the request."""
