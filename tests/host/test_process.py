"""Processes that labctl starts and knows again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import DeadlineError
from labctl.host import identity, paths, process, telling


def test_a_process_that_ended_is_not_running_even_before_it_is_reaped() -> None:
    """The engine starts machines from its own process, which does not wait for them."""
    child = process.start(["true"])
    try:
        assert wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "Z")
        assert identity.start_time(child.pid) == ""
        assert identity.start_time(os.getpid()) != ""
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


def test_a_child_of_a_background_job_can_be_interrupted() -> None:
    """A shell without job control starts background jobs with the signal INT ignored, and children inherit that."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = process.start(["sleep", "60"])
        ended = process.follow(child, timeout=0.5, grace=5)
    finally:
        signal.signal(signal.SIGINT, former)
    assert (ended.status, ended.late) == (-signal.SIGINT, True)


def test_an_interruption_is_not_lost_while_a_background_jobs_child_begins() -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(20):
            child = process.start(["sleep", "60"])
            child.send_signal(signal.SIGINT)
            try:
                assert child.wait(5) == -signal.SIGINT
            finally:
                child.kill()
    finally:
        signal.signal(signal.SIGINT, former)


# --- what a failure says ---------------------------------------------------------------------------


def test_a_failure_says_in_its_first_line_what_failed_and_why() -> None:
    with pytest.raises(process.CommandError) as raised:
        process.run(
            ["sh", "-c", "echo begun; echo 'E: no such package' >&2; echo trailing >&2; exit 4"], name="apt-get"
        )
    assert raised.value.message.splitlines()[0] == "apt-get failed with status 4: E: no such package"
    assert raised.value.reason == "E: no such package"
    assert raised.value.status == 4


def test_no_message_has_a_long_command_line_and_a_log_has_it_whole(home: Path) -> None:
    words = ["sh", "-c", "seq 1 50 >&2; exit 1", *(f"package-{n}" for n in range(500))]
    with pytest.raises(process.CommandError) as raised:
        process.run(words)
    lines = raised.value.message.splitlines()
    assert all(len(line) <= process.SHOWN + 60 for line in lines)
    assert "package-499" not in raised.value.message
    log = Path(lines[-1].removeprefix("full log: "))
    assert log.parent == paths.logs()
    assert log.stat().st_mode & 0o777 == 0o600
    assert "package-499" in log.read_text()
    assert log.read_text().splitlines()[1:] == [str(n) for n in range(1, 51)]


def test_a_command_that_is_late_says_so_in_short_and_what_it_said_last(home: Path, tmp_path: Path) -> None:
    words = ["sh", "-c", "echo waiting for godot; sleep 60", *(f"package-{n}" for n in range(500))]
    with pytest.raises(DeadlineError) as raised:
        process.run(words, timeout=0.5, log=tmp_path / "log")
    first = raised.value.message.splitlines()[0]
    assert first.startswith("timed out after 0.5 s: sh -c ")
    assert first.endswith("; last: waiting for godot")
    assert len(first) < 2 * process.SHOWN
    assert "package-499" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "no output"),
        ("one\ntwo\n", "two"),
        (
            "Setting up x\nSyntax error\ndpkg: error processing package x (--configure):\n script returned 1\n"
            "E: Sub-process /usr/bin/dpkg returned an error code (1)",
            "dpkg: error processing package x (--configure): script returned 1",
        ),
        (
            "Err:1 http://mirror x 1\n  404  Not Found\nE: Failed to fetch http://mirror/x.deb  404  Not Found\n"
            "E: Some files failed to download",
            "E: Failed to fetch http://mirror/x.deb  404  Not Found",
        ),
        ("tar: x: Cannot write: No space left on device\nE: other", "tar: x: Cannot write: No space left on device"),
        ("dpkg-deb: error: unknown option -q\n\nType dpkg-deb --help for help", "dpkg-deb: error: unknown option -q"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'name'\n", "KeyError: 'name'"),
    ],
)
def test_last_words_are_those_that_say_why(said: str, why: str) -> None:
    assert telling.last_words(said) == why


def test_a_listener_hears_lines_and_keeps_status_out_of_the_log(tmp_path: Path) -> None:
    heard: list[str] = []

    def line(text: str) -> bool:
        heard.append(text)
        return text.startswith("pmstatus:")

    script = "echo one; echo pmstatus:x:50:half; printf two"
    process.run(["sh", "-c", script], log=tmp_path / "log", listener=process.Listener(line))
    assert heard == ["one", "pmstatus:x:50:half"]
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["one", "two"]


def test_a_listener_ends_a_command_that_does_not_move(tmp_path: Path) -> None:
    began = time.monotonic()

    def tick() -> None:
        if time.monotonic() - began > 0.5:
            raise DeadlineError("nothing moves")

    with pytest.raises(DeadlineError, match="nothing moves"):
        process.run(["sleep", "60"], log=tmp_path / "log", listener=process.Listener(lambda text: False, tick))
    assert time.monotonic() - began < 10
