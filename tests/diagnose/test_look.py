"""The read-only side of operations, on files of the test."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from pathlib import Path

import pytest
from looking import seen
from support import specify, variants

from labctl.operations.look import look, looks
from labctl.operations.node import (
    Assign,
    Chain,
    Command,
    Directory,
    File,
    Link,
    Operation,
    Parallel,
    Unit,
    Wait,
    flatten,
)
from labctl.operations.script import program
from labctl.plan.planner import plan
from labctl.services.base import Context

USER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name


def run(operation: Operation, directory: Path, *, direct: bool = False) -> tuple[int, str]:
    """Look at one thing, with ``direct`` by its own shell text; a file's payload is written as an upload would."""
    if isinstance(operation, File):
        payload = directory / operation.payload
        payload.parent.mkdir(parents=True, exist_ok=True)
        payload.write_text(operation.content)
    return seen(operation.test if direct and isinstance(operation, Wait) else look(operation), directory)


def test_a_file_is_compared_by_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    wanted = File(str(path), "# made\n[a]\nb = 1\n[c]\nd = 2\n", USER, GROUP, "0640")
    assert run(wanted, tmp_path) == (1, "is missing\n")
    path.write_text("[c]\nd=2\n# note of somebody\n[a]\nb  =  1\n")
    path.chmod(0o640)
    assert run(wanted, tmp_path) == (0, "")
    path.write_text("[a]\nd = 2\n[c]\nb = 1\n")
    status, said = run(wanted, tmp_path)
    assert status == 1
    assert "< [a] b = 1" in said
    assert "> [c] b = 1" in said


def test_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("[a]\nb = 2\n")
    path.chmod(0o600)
    before = path.stat()
    status, said = run(File(str(path), "[a]\nb = 1\n", USER, GROUP, "0640"), tmp_path)
    assert status == 1
    assert "owner and mode" in said
    assert path.read_text() == "[a]\nb = 2\n"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_mode == before.st_mode


def test_directories_links_and_lines(tmp_path: Path) -> None:
    assert run(Directory(str(tmp_path), USER, GROUP, "0700"), tmp_path)[0] == 0
    assert run(Directory(str(tmp_path / "gone"), USER, GROUP), tmp_path) == (1, "is missing\n")
    (tmp_path / "link").symlink_to("/there")
    assert run(Link(str(tmp_path / "link"), "/there"), tmp_path)[0] == 0
    assert "leads to '/there'" in run(Link(str(tmp_path / "link"), "/here"), tmp_path)[1]
    (tmp_path / "ini").write_text("#a = 1\na = 2\n")
    assert run(Assign(str(tmp_path / "ini"), (("a", "2"),)), tmp_path)[0] == 0
    assert run(Assign(str(tmp_path / "ini"), (("a", "1"),)), tmp_path) == (1, "a is '2', not '1'\n")


def test_only_the_test_of_a_command_runs(tmp_path: Path) -> None:
    touch = f"touch {tmp_path}/ran"
    assert look(Command("always", touch)) == ""
    assert run(Command("once", touch, unless="false"), tmp_path)[0] == 1
    assert run(Chain("both", (Command("once", touch, unless="true"),)), tmp_path)[0] == 0
    assert not (tmp_path / "ran").exists()


def test_who_is_busy_is_asked_again_and_who_refuses_is_not(tmp_path: Path) -> None:
    def asked(answer: str) -> tuple[int, str, int]:
        count = tmp_path / "count"
        count.write_text("")
        status, said = run(Wait("service answers", f"echo >>{count}; {answer}"), tmp_path)
        return status, said, len(count.read_text())

    slow = 'sleep 4.1; [ "$(wc -l <' + str(tmp_path / "count") + ')" = 2 ]'
    assert asked(slow) == (0, "", 2)
    assert asked("echo refused; false") == (1, "refused\n", 1)
    assert asked("false") == (1, "no answer\n", 1)


def test_keys_are_readable_and_older_than_the_installation(tmp_path: Path) -> None:
    keys, stamp = tmp_path / "keys", tmp_path / "stamp"
    keys.mkdir()
    call = f'runuser() {{ shift 3; "$@"; }}; look_keys {keys} {USER} {stamp}'

    def seen() -> tuple[int, str]:
        return run(Wait("keys", call), tmp_path, direct=True)

    assert seen()[0] == 1  # there are none
    for number, age in (("0", 50), ("1", 60)):
        (keys / number).write_text("key")
        os.utime(keys / number, (age, age))
    assert seen() == (0, "")
    stamp.write_text("")
    os.utime(stamp, (70, 70))
    assert seen() == (0, "")
    (keys / "2").write_text("rotated")
    assert seen() == (0, "")
    os.utime(keys / "1", (80, 80))
    assert seen() == (1, f"{keys} has keys that are newer than the installation\n")


def test_what_is_set_twice_is_compared_with_the_last() -> None:
    first, last = File("/a", "1"), File("/a", "2")
    assert [item.operation for item in looks((first, last))] == [last]


def test_a_test_that_hangs_ends_alone_and_gives_no_result(tmp_path: Path) -> None:
    tests = [
        Command("well", "", unless="true"),
        Command("hangs", "", unless="sleep 60"),
        Command("bad", "", unless="false"),
    ]
    (tmp_path / "program.sh").write_text(program("diagnose", (Parallel(looks(tuple(tests))),)))
    environment = {**os.environ, "LABCTL_DEADLINE": "1"}
    done = subprocess.run(
        ["sh", "program.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False, env=environment
    )
    marks = sorted(line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("##labctl "))
    assert marks == [["0", "ok"], ["2", "failed"]]


@pytest.mark.parametrize(("path", "base"), variants())
def test_the_program_of_every_lab_is_sh(path: Path, base: str) -> None:
    made = plan(Context.of(specify(path, base=base)))
    for node in made.context.lab.nodes:
        operations = tuple(o for s in made.stages for part in (s.nodes, s.after) for o in flatten(part.get(node, ())))
        text = program("diagnose", looks(operations))
        assert subprocess.run(["sh", "-n"], input=text, text=True, timeout=30, check=False).returncode == 0
        assert any(isinstance(item.operation, Unit) for item in looks(operations))


@pytest.mark.parametrize(
    ("free", "pools", "left"),
    [
        ("484.00", "9500.00 2.50", None),  # a thin pool has nearly all of the group, and room itself
        ("484.00", "9500.00 97.00", "769"),
        ("9000.00", "", None),
        ("100.00", "", "100"),
    ],
)
def test_a_thin_pool_s_room_is_room_for_volumes(free: str, pools: str, left: str | None, tmp_path: Path) -> None:
    programs = {"vgs": f"echo '  {free}'", "lvs": f"[ -z '{pools}' ] || echo '  {pools}'"}
    said = seen("look_volume_group cinder-volumes", tmp_path, programs)
    assert said == ((0, "") if left is None else (1, f"cinder-volumes has {left} MiB left\n"))
