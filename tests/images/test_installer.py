"""Installations in a machine: seen to finish, seen to fail, and never waited for without end."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from labctl.errors import DeadlineError, LabError
from labctl.images import installer, kickstart
from labctl.images.installer import Boot, Console, failure

#: Lines as the installers print them on a serial line, and what they mean; None: it goes on.
LINES = [
    ("[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs", "the installer's kernel panicked"),
    (
        "dracut-initqueue[741]: Warning: dracut-initqueue timeout - starting timeout scripts",
        "the installer does not find its second stage (inst.stage2)",
    ),
    ("Entering emergency mode. Exit the shell to continue.", "the installer's first stage failed"),
    ("Pane is dead (status 1, Sat Nov 21 10:00:00 2026)", "Anaconda crashed"),
    ("An unknown error has occurred", "Anaconda crashed"),
    ("Traceback (most recent call last):", "Anaconda crashed"),
    (
        "The following problem occurred on line 4 of the kickstart file:",
        "the kickstart has an error",
    ),
    ("Error setting up base repository", "the installation source cannot be read"),
    ("Error setting up software source", "the installation source cannot be read"),
    ("There was an error running the kickstart script at line 58.", "a %post script failed"),
    ("[!!] Select and install software", "the installer asks a question"),
    ("Installation step failed", "an installation step failed"),
    ("Prompt: '?' for help, default=1> ", "the installer asks a question"),
    ("Installing libgcc.x86_64 (1/299)", None),
    ("Performing post-installation setup tasks", None),
    ("Retrieving package 12 of 84", None),
    ("[  OK  ] Started Anaconda.", None),
]


@pytest.mark.parametrize(("line", "meaning"), LINES)
def test_a_line_of_the_console_tells_whether_it_has_failed(line: str, meaning: str | None) -> None:
    assert failure(line) == meaning


def test_every_failure_that_is_looked_for_has_a_line_here() -> None:
    assert {what for _, what in installer.FAILURES} - {w for _, w in LINES} <= {
        "Anaconda stopped",
        "the disk is too small",
    }
    assert failure("The installation was stopped due to an error") == "Anaconda stopped"
    assert failure("Not enough space in filesystems") == "the disk is too small"


def test_the_console_is_read_through_its_escapes_and_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_bytes(b"\x1b[2J\x1b[1;1Hfirst\r\nsec")
    console = Console(path)
    assert console.look() is None
    with path.open("ab") as sink:
        sink.write(b"\x1b[0mond\r\n" + kickstart.MARKER.encode() + b"\r\n")
    assert console.look() is None
    assert list(console.last) == ["first", "second", kickstart.MARKER]
    assert console.finished


def test_a_question_is_seen_before_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_text("Partition disks\n---------------\nPrompt: '?' for help> ")
    assert Console(path).look() == "the installer asks a question"


def test_what_comes_after_the_marker_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_text(f"{kickstart.MARKER}\nTraceback (most recent call last):\n")
    console = Console(path)
    assert console.look() is None
    assert console.finished


# --- a machine -------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for QEMU: a script that writes to the file of its serial line. Returns the script's place."""
    place = tmp_path / "bin" / "qemu"
    place.parent.mkdir()
    monkeypatch.setattr(installer, "QEMU", str(place))
    return place


def behave(machine: Path, text: str) -> None:
    find = 'for w in "$@"; do case $w in file:*) serial=${w#file:} ;; esac; done\n'
    machine.write_text(f"#!/bin/sh\n{find}{text}\n")
    machine.chmod(machine.stat().st_mode | stat.S_IXUSR)


def boot(tmp_path: Path) -> Boot:
    return Boot(tmp_path / "k", tmp_path / "i", "inst.text", (tmp_path / "a.iso", tmp_path / "b.iso"))


def run(tmp_path: Path, seconds: float = 20) -> None:
    installer.install(boot(tmp_path), tmp_path / "disk.qcow2", tmp_path / "console.log", size=1, seconds=seconds)


def test_an_installation_ends_with_its_marker_and_the_machine(machine: Path, tmp_path: Path) -> None:
    behave(machine, f'echo "Installing" >>"$serial"; echo "{kickstart.MARKER}" >>"$serial"')
    run(tmp_path)
    assert (tmp_path / "disk.qcow2").exists()


def test_a_failure_on_the_console_ends_it_at_once_and_is_shown(machine: Path, tmp_path: Path) -> None:
    behave(machine, 'echo $$ >"$serial.pid"; echo "Error setting up base repository" >>"$serial"; exec sleep 60')
    began = time.monotonic()
    with pytest.raises(LabError, match="the installation source cannot be read") as raised:
        run(tmp_path)
    assert time.monotonic() - began < 15
    assert "Error setting up base repository" in raised.value.message
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "console.log.pid").read_text()), 0)


def test_a_machine_that_restarts_without_the_marker_was_not_installed(machine: Path, tmp_path: Path) -> None:
    behave(machine, 'echo "Partitioning" >>"$serial"')
    with pytest.raises(LabError, match="restarted before the installation finished") as raised:
        run(tmp_path)
    assert "Partitioning" in raised.value.message


def test_a_machine_that_cannot_start_says_why(machine: Path, tmp_path: Path) -> None:
    behave(machine, 'echo "qemu: no such device" >&2; exit 1')
    with pytest.raises(LabError, match="QEMU failed with status 1: qemu: no such device"):
        run(tmp_path)


def test_an_installation_that_hangs_is_ended_at_its_deadline(machine: Path, tmp_path: Path) -> None:
    behave(machine, 'echo "Checking storage" >>"$serial"; exec sleep 60')
    with pytest.raises(DeadlineError, match="the installation timed out after 2 s") as raised:
        run(tmp_path, seconds=2)
    assert "Checking storage" in raised.value.message


def test_the_machine_has_both_discs_and_ends_when_it_would_restart(tmp_path: Path) -> None:
    words = [
        str(w) for w in installer.command(boot(tmp_path), tmp_path / "d", tmp_path / "c", memory=1, cpus=1, kvm=False)
    ]
    assert "-no-reboot" in words
    assert [w for w in words if w.startswith("ide-cd")] == ["ide-cd,drive=cd0,bus=ide.0", "ide-cd,drive=cd1,bus=ide.1"]
    assert "tcg,thread=multi" in words
