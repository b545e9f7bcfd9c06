"""Locks of a labctl that was killed: what it had started holds them until it has ended too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

from labctl.host import lock

#: Takes a lock and starts a process that inherits it and goes on for a while.
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from labctl.host import lock
with lock.exclusive(Path(sys.argv[1]), "builds it"):
    subprocess.Popen(["sleep", sys.argv[2]], close_fds=False)
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path, seconds: str) -> subprocess.Popen[str]:
    running = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), seconds], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "held\n"
    return running


@pytest.mark.parametrize("ask", [lock.free, lock.tried])
def test_a_lock_is_free_once_what_a_killed_holder_had_started_has_ended(ask, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path))
    running = holder(tmp_path / "it.lock", "2")
    running.kill()
    running.wait(10)
    with ask(tmp_path / "it.lock") as mine:
        assert mine


def test_a_holder_that_runs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path))
    running = holder(tmp_path / "it.lock", "0")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", lambda seconds: pytest.fail("waits"))
            with lock.free(tmp_path / "it.lock") as mine:
                assert not mine
    finally:
        running.kill()
        running.wait(10)


def test_who_only_asks_for_the_holder_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path))
    running = holder(tmp_path / "it.lock", "2")
    running.kill()
    running.wait(10)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits"))
    lock.holder(tmp_path / "it.lock")
