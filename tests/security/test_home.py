"""No other user can hold labctl's locks, put a link in their place, or read its home."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.__main__ import run
from labctl.errors import LabError
from labctl.host import home as home_module
from labctl.host import lock, paths, process
from labctl.host.home import _OWN as OWN
from labctl.images import store
from labctl.progress import Event, subscribed
from labctl.records.lab import locked


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_new_home_and_its_locks_are_for_their_user_alone(home: Path) -> None:
    with locked("zed", "labctl up"):
        assert mode(home / "locks" / "zed.lock") == 0o600
    assert mode(home) == 0o700


def test_the_lock_of_an_image_too(home: Path) -> None:
    final = paths.images() / "base-1"
    with store.building(final):
        assert mode(store.lock_of(final)) == 0o600
    assert mode(home) == 0o700


def test_an_open_home_is_mended_once_and_said(home: Path) -> None:
    (home / "locks").mkdir(parents=True)
    (home / "locks" / "zed.lock").touch(0o666)
    home.chmod(0o755)
    events: list[Event] = []
    with subscribed(events.append):
        for _ in range(2):
            with locked("zed", "labctl up"):
                pass
    assert mode(home) == 0o700
    assert [e.text for e in events] == [f"{home} was open to other users (0755); its mode is 0700 now"]


def test_any_command_mends_the_home_and_says_so_once(home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    said = [process.run([sys.executable, "-m", "labctl", "list"]).stderr for _ in range(2)]
    assert mode(home) == 0o700
    assert said[0].splitlines()[0] == f"{home} was open to other users (0755); its mode is 0700 now"
    assert "0700" not in said[1]


def test_a_directory_of_other_things_keeps_its_permissions_and_what_is_labctls_in_it_is_closed(home: Path) -> None:
    (home / "mine").mkdir(parents=True)
    (home / "images").mkdir()
    for path in (home, home / "images"):
        path.chmod(0o755)
    for _ in range(2):
        with locked("zed", "labctl up"):
            pass
        paths_closed = {name for name in OWN if mode(home / name) == 0o700}
        assert (mode(home), paths_closed) == (0o755, set(OWN))
        home_module._done.clear()  # as the next process


def nobody(*words: str | Path) -> str:
    """What another user's command says."""
    done = process.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *words], check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_finds_nothing_in_the_home_and_holds_no_lock(home: Path) -> None:
    parents = [p for p in home.parents if p.is_relative_to("/tmp") and p != Path("/tmp")]
    for path in parents:  # pytest's own directories are closed too
        path.chmod(0o755)
    setuid = home / "labs/zed/nodes/controller/root/usr/bin/su"
    setuid.parent.mkdir(parents=True)
    setuid.touch()
    setuid.chmod(0o4755)
    home.chmod(0o755)
    assert str(setuid) in nobody("find", home)  # the machine's temporary directory hides nothing
    with locked("zed", "labctl up"):
        path = home / "locks" / "zed.lock"
        assert nobody("find", home).splitlines()[0] == str(home)
        assert str(setuid) not in nobody("find", home)
        assert "Permission denied" in nobody("cat", setuid)
        assert "Permission denied" in nobody("flock", "--nonblock", path, "true")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_home_that_is_closed_to_a_user_is_no_bug(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (p for p in home.parents if p.is_relative_to("/tmp") and p != Path("/tmp")):
        path.chmod(0o755)
    (home / "labs").mkdir(parents=True)
    home.chmod(0o700)
    monkeypatch.setattr(sys, "argv", ["labctl", "list"])
    with pytest.raises(SystemExit):
        run()  # imports what the other user may not be able to read
    os.seteuid(65534)
    try:
        with pytest.raises(SystemExit) as ended:
            run()
    finally:
        os.seteuid(0)
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [f"error: {home}/labs: Permission denied", "  try: the same command with sudo"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_the_home_of_another_user_is_refused(home: Path) -> None:
    home.mkdir()
    os.chown(home, 65534, 65534)
    with pytest.raises(LabError, match="belongs to another user"), locked("zed", "labctl up"):
        pass


def test_a_link_in_a_locks_place_is_not_followed(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (home / "locks").mkdir(parents=True)
    (home / "locks" / "zed.lock").symlink_to(target)
    with pytest.raises(LabError), locked("zed", "labctl up"):
        pass
    assert target.read_text() == "precious"


def test_a_lock_that_was_replaced_is_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.lock"
    path.touch()
    real = fcntl.flock

    def replaced(handle: int, kind: int) -> None:
        real(handle, kind)
        (tmp_path / "new").touch()
        (tmp_path / "new").rename(path)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with lock.free(path) as free:
        assert not free
