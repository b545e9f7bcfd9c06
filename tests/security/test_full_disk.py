"""A full disk: what frees space needs none, and whatever else needs some says so (a real small file system)."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from pathlib import Path

import pytest
from commandline import Labctl
from support import SMALL, specify, write

from labctl.drivers.fake import Fake
from labctl.engine.converge import Engine, no_guest
from labctl.errors import LabError
from labctl.host import process, state
from labctl.lab import room, snapshot
from labctl.records.lab import Lab

#: Fills a file system of its own, in a mount namespace of its own.
FILL = """
import os, sys
from pathlib import Path
place = Path(sys.argv[1])
from labctl.host import files, lock
from labctl.errors import LabError
record = place / "lab.json"
files.rewrite(record, "x" * 5000)
with (place / "fill").open("wb") as sink:
    try:
        while True:
            sink.write(b"0" * 4096); sink.flush()
    except OSError:
        try: sink.close()
        except OSError: pass
os.environ["LABCTL_HOME"] = str(place)
"""


def full(tmp_path: Path, program: str) -> str:
    mount = 'mount -t tmpfs -o size=256k none "$1" && : > "$1/a.lock" && exec "$2" -c "$3" "$1"'
    words = ["unshare", "-m", "sh", "-c", mount, "sh", tmp_path, sys.executable, FILL + program]
    return process.run(words, timeout=60, check=False).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_record_gets_shorter_and_not_longer_on_a_full_disk(tmp_path: Path) -> None:
    said = full(
        tmp_path,
        "files.rewrite(record, 'short'); print(record.read_text())\n"
        "with (place / 'fill').open('ab') as sink:\n"
        "    try: sink.write(b'0' * 8192)\n"
        "    except OSError: pass\n",
    )
    assert said.startswith("short")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_lock_is_held_on_a_full_disk(tmp_path: Path) -> None:
    program = "with lock.held(place / 'a.lock', 'down', LabError): print('held')"
    assert full(tmp_path, program) == "held\n"


#: Runs commands on a home that was copied to a file system without room; prints what each said.
COMMANDS = """
import contextlib, io, os, shutil, sys
from pathlib import Path
place, home, topology, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["LABCTL_HOME"] = str(place)
from labctl import __main__, drivers
from labctl.drivers.fake import Fake
drivers.LOADED["nspawn"] = Fake()
shutil.copytree(home, place, symlinks=True, dirs_exist_ok=True)
if how == "full":
    with (place / "logs" / "fill.log").open("wb", buffering=0) as sink:
        try:
            while True:
                sink.write(b"0" * 512)
        except OSError:
            pass
else:
    os.system(f"mount -o remount,ro '{place}'")
for line in sys.argv[5:]:
    sys.argv = ["labctl", *line.split()]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            __main__.run()
        except SystemExit as left:
            status = left.code
    print(f"== {line}: {status}", said.getvalue(), sep="\\n", flush=True)
"""


def on(how: str, home: Path, tmp_path: Path, *lines: str) -> dict[str, tuple[int, str]]:
    """What commands answer with a home that is full, or can only be read."""
    place = tmp_path / "small"
    place.mkdir()
    mount = 'mount -t tmpfs -o size=2m none "$1" && place=$1 && shift && exec "$@"'
    program = [sys.executable, "-c", COMMANDS, place, home, tmp_path / "lab.yaml", how, *lines]
    done = process.run(["unshare", "-m", "sh", "-c", mount, "sh", place, *program], timeout=200, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert "bug in labctl" not in done.stdout
    answers = {}
    for part in done.stdout.split("== ")[1:]:
        head, _, said = part.partition("\n")
        line, _, status = head.rpartition(": ")
        answers[line] = (int(status or 0), said)
    assert list(answers) == list(lines), done.stdout + done.stderr
    return answers


@pytest.fixture
def small(home: Path, fake: Fake, tmp_path: Path) -> Path:
    """A home with a lab of two snapshots, and a leftover."""
    path = write(tmp_path, SMALL)
    lab = Lab.create(specify(path), path)
    Engine(lab, no_guest).up()
    snapshot.create(lab, "one")
    (lab.top / "written").write_bytes(b"x" * 200_000)
    snapshot.create(lab, "two")
    (home / "logs").mkdir(exist_ok=True)
    return home


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_on_a_full_disk_commands_free_space_or_say_what_does(small: Path, tmp_path: Path) -> None:
    topology = str(tmp_path / "lab.yaml")
    words = ("snapshot create small three", f"up {topology} --name other", f"validate {topology}", "list")
    words += ("status small", "gc --dry-run", "snapshot delete small two", "gc", "down small", "list -o json")
    said = on("full", small, tmp_path, *words)
    for line in words[:2]:
        status, text = said[line]
        assert status == 1
        assert "free" in text
        assert "labctl" in text.partition("try: ")[2]
    # the log that fills the file system, by its size
    assert re.search(r"labctl gc frees [\d.]+ [KM]iB", said[words[1]][1]), said[words[1]][1]
    assert {line for line in words[2:] if said[line][0]} <= {"status small"}, said
    assert said["list -o json"][1].strip() == "[]"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_on_a_read_only_file_system_commands_say_so(small: Path, tmp_path: Path) -> None:
    topology = str(tmp_path / "lab.yaml")
    changes = ("gc", "snapshot delete small two", "down small", f"up {topology} --name other")
    said = on("read-only", small, tmp_path, f"validate {topology}", "list", *changes)
    assert said[f"validate {topology}"][0] == 0, said
    assert "small" in said["list"][1]
    for line in changes[1:]:
        assert said[line][0] == 1, (line, said[line])
        assert re.search("(?i)read-only file system|cannot write to", said[line][1]), said[line]


def test_what_frees_space_is_said_with_figures(small: Path, labctl: Labctl) -> None:
    (small / "logs" / "old.log").write_bytes(b"x" * 300_000)
    assert "snapshot delete" not in room.said()  # the lab is built upon its snapshots
    snapshot.restore(Lab.load("small"), "one")
    said = room.said()
    assert re.search(r"labctl gc frees (29\d|30\d) KiB", said), said
    assert re.search(r"labctl snapshot delete small two frees 2\d\d KiB", said), said


def test_figures_that_fail_or_take_long_are_left_out(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.2)
    monkeypatch.setattr(room.gc, "find", lambda: time.sleep(5))
    monkeypatch.setattr(room.gc, "unused_images", lambda: 1 / 0)
    monkeypatch.setattr(room, "names", lambda: ["nowhere"])
    began = time.monotonic()
    said = room.said()
    assert time.monotonic() - began < 2
    assert said == "labctl gc; labctl image prune --unused; labctl list and labctl down free what a lab has"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_the_system_answers_in_words(number: int, small: Path, labctl: Labctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), str(small / "labs/small/lab.json"))

    monkeypatch.setattr(room.gc, "find", lambda **_: refuse())
    status, _, errors = labctl("gc")
    assert status == 1
    assert str(small) in errors
    assert ("the disk may be failing" in errors) == ("dmesg" in errors) == (number == errno.EIO)
    assert ("no space left on the file system" in errors) == (number != errno.EIO)


def test_a_state_file_on_a_failing_disk_is_not_advised_to_be_removed(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(state.files, "opened", fail)
    with pytest.raises(LabError, match="the disk may be failing") as raised:
        Lab.load("small")
    assert "down" not in raised.value.hint
    assert "lab.json" in raised.value.message
