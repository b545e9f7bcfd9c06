"""A stage on one node: the uploaded archive, run by a real shell, and what is made of its answers."""

from __future__ import annotations

import getpass
import grp
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import BrokenLabError, LabError
from labctl.host import process
from labctl.host.ssh import Result, Session
from labctl.operations import runner
from labctl.operations.node import Command, File, Item, Parallel
from labctl.operations.runner import Outcome, archive, end_programs, run_stage
from labctl.secret import Secret

SECRETS = {"DB_PASS": Secret("hunter2hunter2"), "OTHER": Secret("hunter2")}


class LocalSession(Session):
    """Runs what a node would run, here."""

    def __init__(self) -> None:
        self.where, self.patience = "here", 1.0

    def run(
        self, command: str, *, timeout: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Result:
        done = process.run(["sh", "-c", command], stdin=stdin.decode(), timeout=timeout, check=False)
        for line in done.stdout.splitlines():
            if on_line:
                on_line(line)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setattr(runner, "DIRECTORY", str(directory))
    return directory


def run(*items: Item, seen: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:
    return run_stage(LocalSession(), "zed-2node", "controller", "configure", items, SECRETS, seen, 30).outcomes


def file(path: Path, content: str) -> File:
    return File(str(path), content, getpass.getuser(), grp.getgrgid(os.getgid()).gr_name, "0600")


def test_a_stage_reports_each_operation_with_its_title_state_and_time(place: Path, tmp_path: Path) -> None:
    seen: list[Outcome] = []
    look = Command("look", "sleep 0.1", changes=False)

    outcomes = run(file(tmp_path / "it.conf", "password = \x02DB_PASS\x03\n"), look, seen=seen.append)

    assert [(o.node, o.number, o.title, o.state) for o in outcomes] == [
        ("controller", 0, f"write {tmp_path}/it.conf", "changed"),
        ("controller", 1, "look", "ok"),
    ]
    assert 0.1 <= outcomes[1].seconds < 20
    assert seen == outcomes
    assert (tmp_path / "it.conf").read_text() == "password = hunter2hunter2\n"


def test_nothing_with_a_secret_stays_where_the_program_ran(place: Path, tmp_path: Path) -> None:
    run(file(tmp_path / "it.conf", "\x02DB_PASS\x03\n"), Command("use", "test -n \x02DB_PASS\x03 && echo used"))

    assert (place / "configure").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in (place / "configure").iterdir()) == ["0.out", "1.out"]
    assert "used" in (place / "configure" / "1.out").read_text()


def test_a_failure_names_stage_node_and_operation_and_shows_the_output_without_secrets(place: Path) -> None:
    wrong = Command(
        "sync tables", "echo access denied with password \x02DB_PASS\x03; echo '  and \x02OTHER\x03' >&2; exit 5"
    )

    with pytest.raises(LabError) as raised:
        run(Command("before", "true"), wrong, Command("after", "true"))

    message = raised.value.message
    assert "stage configure, controller: 'sync tables' failed after" in message
    assert "    access denied with password ***\n      and ***" in message
    assert "hunter2" not in message
    assert raised.value.hint == "labctl ssh zed-2node controller"
    assert "password" not in (place / "configure" / "0.out").read_text()


def test_secrets_are_removed_from_the_node_after_a_failure_too(place: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError):
        run(file(tmp_path / "it.conf", "\x02DB_PASS\x03\n"), Command("bad", "false"))
    assert not (place / "configure" / "program.sh").exists()
    assert not (place / "configure" / "files").exists()


def test_every_failure_of_a_parallel_group_is_told(place: Path) -> None:
    group = Parallel(tuple(Command(n, f"echo output of {n}; false") for n in ("one", "two")), jobs=1)
    with pytest.raises(LabError) as raised:
        run(group)
    for word in ("'one' failed", "output of one", "'two' failed", "output of two"):
        assert word in raised.value.message


def test_only_the_end_of_a_long_output_is_shown(place: Path) -> None:
    with pytest.raises(LabError) as raised:
        run(Command("talk", "seq 5000; false"))
    lines = raised.value.message.splitlines()
    assert lines[-1].strip() == "5000"
    assert len(lines) < 80


def test_a_program_that_never_started_shows_why(place: Path) -> None:
    place.write_text("a file in the way")
    with pytest.raises(LabError, match="stage configure on controller ended early") as raised:
        run(Command("never", "true"))
    assert str(place) in raised.value.message


def test_what_an_earlier_stage_left_is_gone(place: Path) -> None:
    run(Command("one", "true"), Command("two", "true"))
    run(Command("one", "true"))
    assert [p.name for p in (place / "configure").iterdir()] == ["0.out"]


def test_the_archive_is_readable_by_its_owner_only() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive("s", (File("/etc/x", "ü\n"),), {}))) as tar:
        assert {m.name: oct(m.mode) for m in tar.getmembers()} == {"program.sh": "0o600", "files/etc/x": "0o600"}


def test_a_mark_without_a_secret_is_never_uploaded() -> None:
    with pytest.raises(KeyError, match="NO_SUCH"):
        archive("s", (File("/etc/x", "\x02NO_SUCH\x03"),), SECRETS)


def test_a_program_that_an_interrupted_up_left_running_is_ended_first(place: Path) -> None:
    place.mkdir()
    left = process.start(["sh", "-c", f"sleep 60; : {place}/configure"])
    (place / "configure.pid").write_text(f"{left.pid}\n")
    assert [o.state for o in run(Command("look", "true", changes=False))] == ["ok"]
    assert left.wait(10) == -9


def test_programs_of_other_stages_are_ended_before_any_begins(place: Path) -> None:
    place.mkdir()
    left = [process.start(["sh", "-c", f"sleep 60; : {place}"]) for _ in range(2)]
    for number, each in enumerate(left):
        (place / f"stage{number}.pid").write_text(f"{each.pid}\n")
    end_programs(LocalSession())
    assert [each.wait(10) for each in left] == [-9, -9]


def test_a_number_that_belongs_to_another_process_now_is_left_alone(place: Path) -> None:
    place.mkdir()
    other = process.start(["sleep", "60"])
    try:
        (place / "configure.pid").write_text(f"{other.pid}\n")
        run(Command("look", "true", changes=False))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_the_number_of_an_earlier_program_may_be_this_ones_own(place: Path, tmp_path: Path) -> None:
    """A container that was restarted gives the same numbers to the same things."""
    place.mkdir()
    with (tmp_path / "said").open("wb") as log:
        running = process.start(
            ["sh", "-c", f"echo $$ >{place}.pid; {runner._alone(runner.DIRECTORY)}; echo lives"], log=log
        )
    assert running.wait(20) == 0
    assert (tmp_path / "said").read_text() == "lives\n"


def test_a_connection_that_breaks_is_told_with_its_stage_and_node(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Result:
        raise BrokenLabError("the SSH connection broke while running 'mkdir -p'")

    monkeypatch.setattr(LocalSession, "run", broken)
    with pytest.raises(BrokenLabError, match="stage configure on controller: connection lost"):
        run(Command("look", "true"))
