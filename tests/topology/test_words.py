"""What can be written is what exists: validate, plan and up agree, and editors are offered no other word."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ROOT, SMALL, write
from typer.testing import CliRunner

from labctl import bases, drivers
from labctl.bases import runs_on
from labctl.cli import app
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.lab.choose import draft
from labctl.releases import NUMBERS, RELEASES
from labctl.topology.load import load, parse
from labctl.topology.schema import schema

VERBS = (("validate",), ("plan",), ("up", "--dry-run"))


def refused(*words: str) -> str:
    """What a command says that ends with a user's error."""
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, LabError), (words, error)
    return error.message


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("release", "release: queens"),
        ("release", "release: dalmatian"),
        ("bases", "bases: [debian11]"),
        ("bases", "bases: [debian14]"),
        ("drivers", "drivers: [docker]"),
        ("drivers", "drivers: [fake]"),
    ],
)
def test_a_word_without_a_recipe_is_a_problem_with_its_place_to_every_verb(
    key: str, written: str, tmp_path: Path
) -> None:
    lines = SMALL.splitlines()
    line = next(i for i, text in enumerate(lines) if text.startswith(f"{key}:"))
    path = write(tmp_path, "\n".join([*lines[:line], written, *lines[line + 1 :]]) + "\n")
    said = {refused(*verb, str(path)) for verb in VERBS}
    assert len(said) == 1
    word = written.split()[-1].strip("[]")
    assert f"{path}:{line + 1}:{written.index(word) + 1}: {key}" in said.pop()


def test_such_a_word_is_refused_as_an_option_too() -> None:
    for verb in VERBS:
        assert "unknown release 'queens'; known: " in refused(*verb, "zed-2node", "--release", "queens")
    for verb in VERBS[1:]:
        assert "unknown driver 'docker'; known: " in refused(*verb, "zed-2node", "--driver", "docker")
        assert "zed-2node does not run on debian11" in refused(*verb, "zed-2node", "--base", "debian11")


def test_every_word_that_an_editor_offers_exists() -> None:
    offered = schema()["properties"]
    assert offered["release"]["enum"] == [*RELEASES, *NUMBERS]
    assert set(offered["bases"]["items"]["enum"]) == {name for name, _ in bases.BASES}
    assert offered["drivers"]["items"]["enum"] == list(drivers.DRIVERS)
    for release in RELEASES.values():
        assert bases.of(release) == tuple(release.bases), "a base without a recipe, or without a source"


@pytest.mark.parametrize(
    ("release", "base", "driver"),
    [(r, b, d) for r in RELEASES for b in bases.of(RELEASES[r]) for d in drivers.DRIVERS if runs_on(b, d)],
)
def test_whatever_is_valid_has_a_plan(
    release: str, base: str, driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in drivers.DRIVERS:  # what this machine has is no matter, and takes a while to find out
        monkeypatch.setitem(drivers.LOADED, name, Fake())
    text = SMALL.replace("zed", release).replace("debian12", base).replace("nspawn", driver)
    spec = draft(load(write(tmp_path, text))).spec
    assert (spec.release, spec.base, spec.driver) == (release, base, driver)
    assert bases.get(base, spec.package_source)


@pytest.mark.parametrize("written", ["2025.1", "'2025.1'", "epoxy"])
def test_a_release_is_known_by_its_number_too(written: str) -> None:
    text = (ROOT / "topologies" / "epoxy-2node.yaml").read_text().replace("release: epoxy", f"release: {written}")
    assert parse(text, "f").release == "epoxy"
    assert parse(text, "f", "2025.1").release == "epoxy"
