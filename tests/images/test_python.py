"""The interpreter of old releases: what is found, what is refused and why, and what becomes of it in a layer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.host import paths, process
from labctl.images import golden, python

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def interpreter(path: Path, version: str, missing: tuple[str, ...] = ()) -> Path:
    """A stand-in that answers the probe as a CPython would."""
    answer = {
        "minor": version.rpartition(".")[0],
        "version": f"{version} (made for a test)",
        "executable": str(path),
        "prefix": str(path.parents[1]),
        "stdlib": str(path.parents[1] / "lib"),
        "include": str(path.parents[1] / "include"),
        "libdir": None,
        "library": None,
        "missing": missing,
    }
    return program(path, f"cat <<'E'\n{json.dumps(answer)}\nE")


class Place:
    """A machine with a pyenv, a PATH and a home of its own."""

    def __init__(self, root: Path) -> None:
        self.pyenv, self.bin, self.home = root / "pyenv", root / "bin", root / "home"
        for path in (self.bin, self.home):
            path.mkdir()

    def version(self, version: str, missing: tuple[str, ...] = ()) -> Path:
        """Install one with pyenv."""
        name = f"python{version.rpartition('.')[0]}"
        return interpreter(self.pyenv / "versions" / version / "bin" / name, version, missing)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    for tool in ("cat", "sh", "mkdir", "cp"):
        (made.bin / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PYENV_ROOT", str(made.pyenv))
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("HOME", str(made.home))
    return made


def test_the_newest_of_pyenvs_versions_is_taken(place: Place) -> None:
    place.version("3.7.9")
    newest = place.version("3.7.16")
    place.version("3.8.18")

    assert python.find(("3.7", "3.8"), "Train").executable == newest


def test_pyenvs_own_directory_needs_no_variable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYENV_ROOT")
    there = interpreter(place.home / ".pyenv/versions/3.7.16/bin/python3.7", "3.7.16")

    assert python.find(("3.7",), "Train").executable == there


def test_an_interpreter_on_the_path_will_do(place: Place) -> None:
    there = interpreter(place.bin / "python3.7", "3.7.3")

    assert python.find(("3.7",), "Train").executable == there


def test_the_second_choice_is_taken_where_the_first_is_absent(place: Place) -> None:
    there = place.version("3.8.18")

    assert python.find(("3.7", "3.8"), "Train").executable == there


def test_one_without_tls_is_passed_over_for_one_with(place: Place) -> None:
    place.version("3.7.16", missing=("ssl (No module named '_ssl')",))
    good = place.version("3.7.9")

    assert python.find(("3.7",), "Train").executable == good


def test_pre_releases_and_other_implementations_are_no_versions(place: Place) -> None:
    interpreter(place.pyenv / "versions/3.7.0b1/bin/python3.7", "3.7.0")
    interpreter(place.pyenv / "versions/3.7-dev/bin/python3.7", "3.7.0")

    with pytest.raises(LabError):
        python.find(("3.7",), "Train")


def test_without_one_the_message_says_what_was_looked_at_and_what_to_do(place: Place) -> None:
    lacking = place.version("3.7.16", missing=("ssl (No module named '_ssl')",))
    shim = program(place.bin / "python3.7", 'echo "pyenv: python3.7: command not found" >&2; exit 127')
    other = interpreter(place.bin / "python3.8", "3.9.1")

    with pytest.raises(LabError) as raised:
        python.find(("3.7", "3.8"), "Train")

    assert raised.value.message.splitlines() == [
        "Train needs Python 3.7 or 3.8, and this machine has no suitable one; rejected:",
        f"  {lacking}: lacks ssl (No module named '_ssl')",
        f"  {shim}: pyenv: python3.7: command not found",
        f"  {other}: is Python 3.9",
        "  uv, which could install one: not installed",
    ]
    assert raised.value.hint.startswith("pyenv install 3.7, or install uv")


def test_one_that_hangs_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "_ANSWER_SECONDS", 0.5)
    hanging = program(place.pyenv / "versions/3.7.16/bin/python3.7", "exec /bin/sleep 60")

    with pytest.raises(LabError, match=f"{hanging}: timed out after 0.5 s"):
        python.find(("3.7",), "Train")


def test_without_one_nothing_of_an_image_is_built(place: Place) -> None:
    with pytest.raises(LabError, match=r"Train needs Python 3\.7"):
        golden.ensure("debian12", "pypi", "train")

    assert not paths.images().exists()


def test_uv_brings_one_where_there_is_none(place: Place) -> None:
    brought = place.home / "uv/cpython-3.7/bin/python3.7"
    ready = interpreter(place.home / "download/bin/python3.7", "3.7.9")
    text = ready.read_text().replace(str(ready), str(brought))
    ready.write_text(text)
    program(
        place.bin / "uv",
        f'case "$*" in "python install 3.7") mkdir -p {brought.parent} && cp {ready} {brought} ;;\n'
        f'"python find"*3.7) echo {brought} ;; *) exit 2 ;; esac; pwd >>{place.home}/directories',
    )

    assert python.find(("3.7",), "Train").executable == brought
    # in a working directory uv would read uv.toml and .venv, whoever's they are
    assert set((place.home / "directories").read_text().split()) == {"/"}


def test_what_uv_says_is_part_of_the_message(place: Place) -> None:
    program(place.bin / "uv", 'echo "error: No download found for cpython-3.6" >&2; exit 2')

    with pytest.raises(LabError) as raised:
        python.find(("3.6",), "Rocky")

    assert raised.value.message.splitlines()[-1] == (
        "  uv python install 3.6: error: No download found for cpython-3.6"
    )


def test_a_copy_runs_where_it_was_put_and_has_no_tests() -> None:
    found = python._probe(Path(sys.executable).resolve(), MINOR, refused := [])
    assert found, refused

    layer = python.ensure(found)
    home = layer / "tree" / found.home.lstrip("/")
    said = process.run(
        [home / "bin" / f"python{MINOR}", "-I", "-c", "import ssl, sys, sysconfig; print(sys.prefix, ssl.__file__)"],
        env={"LD_LIBRARY_PATH": str(home / "lib")},
    ).stdout.split()

    assert said == [str(home), str(home / f"lib/python{MINOR}/ssl.py")]
    assert not (home / f"lib/python{MINOR}/test").exists()
    assert not list(home.rglob("*.a"))
    if found.library:
        link = layer / "tree/usr/lib" / found.library.name
        assert str(link.readlink()) == f"{found.home}/lib/{found.library.name}"
    if found.prefix != Path("/usr"):
        recorded = next((home / f"lib/python{MINOR}").glob("_sysconfigdata*.py")).read_text()
        assert str(found.prefix) not in recorded
