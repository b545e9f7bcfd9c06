"""What labctl started ends with it, whatever signal ends it, and keeps its locks until then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.host import identity, lock, process

#: A labctl that holds a lock while two threads wait for a command, whose pids they write.
BUSY = """
import sys
from pathlib import Path
from labctl import __main__ as labctl
from labctl.host import lock, process, threads

place, command = Path(sys.argv[1]), sys.argv[2]

def work(name):
    process.run(["sh", "-c", command, "sh", place / name], timeout=600)

def app(**options):
    with lock.held(place / "lab.lock", "labctl up", labctl.LabError):
        threads.on_each(work, ["one", "two"])

labctl.app = app
sys.argv = ["labctl", "up"]
labctl.main()
"""
#: Seconds that nothing here takes, also on a machine that is busy with other things.
LONG = 120
SLEEPS = 'echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 600'
#: Its own child goes on, as what a program has not told to end.
LINGERS = 'sleep 600 & echo $! >"$1.new"; mv "$1.new" "$1"; wait'


def busy(place: Path, command: str = SLEEPS, ignored: tuple[int, ...] = ()) -> tuple[subprocess.Popen[str], list[int]]:
    """A running labctl and the pids of its commands.

    :param ignored: signals that it is started to ignore.
    """
    names = ",".join(signal.Signals(number).name.removeprefix("SIG") for number in ignored)
    words = ["env", "--default-signal=INT,HUP,TERM", *([f"--ignore-signal={names}"] if names else [])]
    running = subprocess.Popen([*words, sys.executable, "-c", BUSY, place, command], stderr=subprocess.PIPE, text=True)
    return running, pids_in(place, running)


def pids_in(place: Path, running: subprocess.Popen[str]) -> list[int]:
    def begun() -> bool:
        return all((place / name).exists() for name in ("one", "two"))

    within(LONG, lambda: begun() or running.poll() is not None)
    assert begun(), running.communicate()[1] if running.poll() is not None else "labctl did not begin"
    return [int((place / name).read_text()) for name in ("one", "two")]


def within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def gone(pids: list[int]) -> bool:
    return not any(identity.start_time(pid) for pid in pids)


def exiting(pid: int) -> bool:
    """Whether the kernel is ending a process, which closes its files first, or has ended it."""
    try:
        return bool(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]) & 0x4)  # PF_EXITING
    except OSError:
        return True


def refused(holder: str) -> LabError:
    return LabError(f"held by {holder}")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_commands_end_with_labctl_before_its_lock_is_free(tmp_path: Path, number: int, status: int) -> None:
    running, pids = busy(tmp_path)
    with pytest.raises(LabError, match=f"held by pid {running.pid}: labctl up"):
        lock.held(tmp_path / "lab.lock", "", refused).__enter__()
    running.send_signal(number)
    assert running.wait(LONG) == status
    with lock.held(tmp_path / "lab.lock", "labctl down", refused):
        assert all(exiting(pid) for pid in pids)
    said = running.communicate()[1]
    assert "Traceback" not in said
    assert ("interrupted: run the same command again" in said) == (number != signal.SIGKILL)


def test_a_terminal_that_is_gone_ends_labctl_and_its_commands(tmp_path: Path) -> None:
    inside, outside = os.openpty()
    words = [sys.executable, "-c", BUSY, tmp_path, SLEEPS]
    running = subprocess.Popen(words, stdout=outside, stderr=outside, text=True)
    os.close(outside)
    pids = pids_in(tmp_path, running)
    os.close(inside)
    running.send_signal(signal.SIGHUP)
    assert running.wait(LONG) == 129
    assert within(LONG, lambda: gone(pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_an_ended_labctls_commands_left_running_keeps_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    running, pids = busy(tmp_path, LINGERS)
    try:
        running.send_signal(number)
        running.wait(LONG)
        monkeypatch.setattr(lock, "ENDING", 0.3)
        with pytest.raises(LabError, match=rf"held by processes of a labctl that was killed \(pid {running.pid}: lab"):
            lock.held(tmp_path / "lab.lock", "", refused).__enter__()
        assert not gone(pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    monkeypatch.setattr(lock, "ENDING", LONG)
    with lock.held(tmp_path / "lab.lock", "", refused):
        assert all(exiting(pid) for pid in pids)


def test_a_command_whose_labctl_ended_before_it_began_is_not_run(tmp_path: Path) -> None:
    done = subprocess.run([*process.MORTAL, "1", "touch", tmp_path / "run"])
    assert done.returncode == 1
    assert not (tmp_path / "run").exists()


def test_inherited_locks_leave_the_low_numbers_to_programs(tmp_path: Path) -> None:
    """mmdebstrap has a shell write to its next free descriptor, and dash takes one digit only."""
    inherited = {int(word) for word in process.run(["ls", "/proc/self/fd"]).stdout.split()}
    with ExitStack() as stack:
        for number in range(12):
            stack.enter_context(lock.exclusive(tmp_path / f"{number}.lock", "tests"))
        said = process.run(["ls", "/proc/self/fd"]).stdout
    numbers = {int(word) for word in said.split()} - inherited
    assert sum(number >= 200 for number in numbers) == 12
    assert all(number < 10 or number >= 200 for number in numbers)


def test_a_labctl_that_goes_on_gives_a_lock_up_for_what_it_started(tmp_path: Path) -> None:
    path = tmp_path / "lab.lock"
    with lock.held(path, "labctl up", refused):
        child = process.start(["sleep", "60"])
    try:
        with lock.held(path, "labctl down", refused):
            pass
        shared = lock.shared(path, "builds")
        lock.give_up(shared)
        with lock.exclusive(path, "builds"), lock.free(path) as free:
            assert not free
    finally:
        child.kill()
        child.wait()


def test_what_outlives_labctl_has_none_of_its_locks(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from labctl.host import lock, process\n"
        "with lock.held(Path(sys.argv[1]), '', Exception):\n"
        "    print(process.start(['sleep', '60'], outlives=True).pid, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "lab.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        running.kill()
    try:
        with lock.free(tmp_path / "lab.lock") as free:
            assert free
        assert not gone([pid])
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_shells_background_job_can_be_interrupted(tmp_path: Path) -> None:
    running, pids = busy(tmp_path, ignored=(signal.SIGINT,))
    running.send_signal(signal.SIGINT)
    assert running.wait(LONG) == 130
    assert within(LONG, lambda: gone(pids))
    running.communicate()


def test_what_nohup_starts_goes_on(tmp_path: Path) -> None:
    running, pids = busy(tmp_path, ignored=(signal.SIGINT, signal.SIGHUP))
    for number in (signal.SIGHUP, signal.SIGINT):
        running.send_signal(number)
    time.sleep(0.5)
    assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    assert running.wait(LONG) == 143
    assert within(LONG, lambda: gone(pids))
    running.communicate()
