"""What is tried again, how often, and what is told."""

from __future__ import annotations

import pytest

from labctl.errors import DeadlineError, LabError
from labctl.host.process import CommandError
from labctl.images import retry
from labctl.progress import Event, Kind, subscribed


def failing(*errors: LabError) -> tuple[list[LabError], retry.Callable[[], str]]:
    left = list(errors)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return left, work


def command(why: str) -> CommandError:
    return CommandError(f"apt-get failed with status 100: {why}\nmore", 100, why, why)


def test_a_momentary_failure_is_told_with_its_reason_and_tried_again() -> None:
    told: list[Event] = []
    mended: list[str] = []
    with subscribed(told.append):
        _, work = failing(command("503"), DeadlineError("timed out after 1 s: apt-get"))
        assert retry.again(work, mend=lambda error: mended.append(error.message.splitlines()[0])) == "done"
    assert [e.text for e in told if e.kind is Kind.WARN] == [
        "apt-get failed with status 100: 503; retrying (2 of 3)",
        "timed out after 1 s: apt-get; retrying (3 of 3)",
    ]
    assert mended == ["apt-get failed with status 100: 503", "timed out after 1 s: apt-get"]


def test_the_last_failure_is_the_error() -> None:
    left, work = failing(*(command(f"reason {n}") for n in range(1, 6)))
    with pytest.raises(CommandError, match="reason 3"):
        retry.again(work)
    assert len(left) == 2


@pytest.mark.parametrize(
    "error",
    [
        command("tar: No space left on device"),
        command("mkdir: Read-only file system"),
        LabError("mmdebstrap is not installed"),
    ],
)
def test_what_no_repetition_mends_is_not_repeated(error: LabError) -> None:
    left, work = failing(error, error)
    with pytest.raises(LabError):
        retry.again(work)
    assert len(left) == 1
