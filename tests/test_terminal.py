"""Whatever the terminal and whatever is typed, no command says that it met a bug."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from commandline import Labctl
from support import ROOT, SMALL, write

from labctl import __version__, drivers
from labctl.cli import app
from labctl.commands import console, plan
from labctl.commands.terminal import visible
from labctl.drivers.fake import Fake
from labctl.host import process

LONG = "x" * 300
#: Commands that look at this machine, run for long, or replace this process: only refused words are tried.
_SLOW = {("doctor",), ("image", "build"), ("image", "fetch"), ("nightly", "run"), ("nightly", "bisect")}


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a tree, with its words."""
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *path, name)
    yield path, command


TREE = dict(commands(typer.main.get_command(app)))
LEAVES = {words: command for words, command in TREE.items() if not hasattr(command, "commands")}


def numbers() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number that can be given, and its limits."""
    for words, command in LEAVES.items():
        hints = get_type_hints(command.callback, include_extras=True)
        for parameter in command.params:
            hint = hints.get(parameter.name)
            kind, *more = get_args(hint) or (hint,)
            if {int, float} & {kind, *get_args(kind)}:
                yield words, (parameter, more[0])


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Labctl:
    """``labctl WORDS`` in this process, in an empty directory: status, output, errors."""
    for name in drivers.DRIVERS:
        monkeypatch.setitem(drivers.LOADED, name, Fake())
    monkeypatch.chdir(tmp_path)

    return Labctl(monkeypatch, capfd, bugs=False)


def words_for(command: Any, value: str) -> list[str]:
    """A value for each argument of a command."""
    return [value for p in command.params if p.param_type_name == "argument" for _ in range(max(1, p.nargs))]


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_every_level_has_help(words: tuple[str, ...], labctl: Labctl) -> None:
    status, out, _ = labctl(*words, "-h")
    assert status == 0
    assert "Usage: labctl" in out


NAMES = (LONG, f"{LONG}/{LONG}", "[/]", "[bold]", "..", "-", "", " ", "a\nb", "\udcff", "é", "\x1b[2J", "😀", ":smile:")


@pytest.mark.parametrize("words", sorted(LEAVES.keys() - _SLOW), ids=" ".join)
def test_any_name_is_only_refused(words: tuple[str, ...], labctl: Labctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for name in NAMES:
        if arguments := words_for(LEAVES[words], name):
            status, out, err = labctl(*words, "--", *arguments)
            assert status != 0 or words in (("nightly", "report"), ("pool", "down")), name
            assert "\x1b" not in out + err


@pytest.mark.parametrize(
    ("words", "number"), list(numbers()), ids=lambda v: " ".join(map(str, v)) if v[0] in TREE else ""
)
def test_numbers_have_limits(words: tuple[str, ...], number: tuple[Any, Any], labctl: Labctl) -> None:
    option, limits = number
    assert limits.min is not None
    assert limits.max is not None
    is_option = option.param_type_name == "option"
    arguments = words_for(LEAVES[words], "x") if is_option else []
    for value in ("99999999999999999999", "1e999", "nan", "-99999999999999999999", "0x10"):
        assert labctl(*words, *arguments, option.opts[-1] if is_option else "--", value)[0] in (1, 2)


def test_the_version_is_printed(labctl: Labctl) -> None:
    assert labctl("--version") == (0, f"labctl {__version__}\n", "")


@pytest.mark.parametrize(("typed", "meant"), [("statsu", "status"), ("snapshot lst", "list"), ("nigthly", "nightly")])
def test_an_unknown_command_names_the_near_one(typed: str, meant: str, labctl: Labctl) -> None:
    status, _, err = labctl(*typed.split())
    assert status == 2
    assert f"Did you mean '{meant}'?" in err


def test_names_and_paths_are_printed_as_they_are(labctl: Labctl, tmp_path: Path) -> None:
    place = tmp_path / "[bold]x[/] :smile: \\"
    place.mkdir(parents=True)
    path = str(write(place))
    status, out, _ = labctl("validate", path)
    assert (status, out.startswith(f"{path}: valid")) == (0, True)
    assert f"{path}:1:1: " in labctl("validate", str(write(place, "")))[2]


def test_a_name_commands_no_terminal(labctl: Labctl, tmp_path: Path) -> None:
    assert visible("a\x1b[2J\u202eb\nc") == "a\\x1b[2J\\u202eb\nc"
    path = write(tmp_path, SMALL.replace("release: zed", 'release: "z\\e[2Jed"'))
    assert "z\\x1b[2Jed" in labctl("validate", str(path))[2]


# --- in a process of its own ---------------------------------------------------------------------------

LABCTL = f"{sys.executable} -m labctl"


def shell(script: str, **environment: str) -> Any:
    """Run a line of bash."""
    env = {**os.environ, **environment}
    return process.run(["bash", "-o", "pipefail", "-c", script], cwd=ROOT, env=env, check=False)


@pytest.mark.parametrize(
    "words",
    [("schema",), ("plan", "zed-2node"), ("guide", "zed-2node"), ("releases",), ("list", "-o", "json"), ("-h",)],
)
@pytest.mark.parametrize("buffer", [[], ["-u"]])
def test_output_that_cannot_be_written_is_no_bug(words: tuple[str, ...], buffer: list[str]) -> None:
    run = 'unset PYTHONUNBUFFERED; "$@" >/dev/full'
    said = process.run(["sh", "-c", run, "sh", sys.executable, *buffer, "-m", "labctl", *words], check=False)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1] == "error: standard output: No space left on device"
    assert "bug" not in said.stderr


@pytest.mark.parametrize("buffer", [[], ["-u"]])
def test_a_reader_that_has_seen_enough_is_told_nothing(buffer: list[str]) -> None:
    run = 'unset PYTHONUNBUFFERED; { "$@"; echo "$?" >&2; } | true'
    said = process.run(["sh", "-c", run, "sh", sys.executable, *buffer, "-m", "labctl", "schema"], check=False)
    assert said.stderr == "1\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_lead_nowhere(closed: str) -> None:
    done = shell(f"{LABCTL} releases -o json {closed}; echo $?; {LABCTL} status nothing {closed}; echo $?")
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["0", "1"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", ["0", "1", "10000", "-3", "many", "٣", "9" * 30])
def test_any_width_will_do(columns: str, labctl: Labctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, columns)
    monkeypatch.setattr(plan, "out", console.Plain())
    assert "second" in labctl("plan", str(write(tmp_path)))[1]
    assert labctl("-h")[1]
    assert "_" in labctl("releases")[1]


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "xx_YY.nothing", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii", "COLUMNS": "9" * 30, "TERMINAL_WIDTH": "many"},
        {"LANG": "", "LC_ALL": "", "TERM": "nothing", "PYTHONIOENCODING": "utf-16"},
    ],
    ids=str,
)
def test_any_locale_will_do(environment: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("name: small", "name: small\ndescription: é 日本"), "é.yaml")
    done = shell(f"{LABCTL} plan {path}", **environment)
    assert (done.returncode, "bug in labctl" in done.stderr) == (0, False), done.stderr
