"""labctl as a wheel, in an environment and a directory of its own: everything it ships is found there."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from support import ROOT, SMALL

from labctl.host import process

SUITE = sorted(path.name for path in (ROOT / "e2e").glob("test_*.py"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the wheel is installed; its dependencies are this environment's."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", ".hypothesis", "artifacts", "golden", "build")
    )
    pip = [sys.executable, "-m", "pip"]
    if process.run([*pip, "--version"], check=False).returncode != 0:
        pytest.skip("no wheel can be built without pip")
    words = ["wheel", "-q", "--no-deps", "--disable-pip-version-check", "--wheel-dir", place, source]
    process.run([*pip, *words], timeout=300)
    (wheel,) = place.glob("labctl-*.whl")
    venv.create(place / "env", with_pip=False)
    own = next((place / "env" / "lib").glob("python*/site-packages"))
    (own / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    shutil.unpack_archive(wheel, own, "zip")
    return place / "env" / "bin" / "python"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory that is no checkout."""
    made = tmp_path / "elsewhere"
    made.mkdir()
    return made


def labctl(python: Path, directory: Path, *words: str) -> str:
    home = {"LABCTL_HOME": str(directory / "home"), "PATH": os.environ["PATH"], "COLUMNS": "200"}
    return process.run([python, "-m", "labctl", *words], cwd=directory, env=home, timeout=120).stdout


def test_the_installed_package_is_the_one_that_runs(installed: Path, elsewhere: Path) -> None:
    said = process.run([installed, "-c", "import labctl; print(labctl.__file__, labctl.checkout())"], cwd=elsewhere)
    place, checkout = said.stdout.split()
    assert str(installed.parents[1]) in place
    assert checkout == "None"


def test_topologies_are_known_by_name(installed: Path, elsewhere: Path) -> None:
    assert "zed-2node.yaml: valid" in labctl(installed, elsewhere, "validate", "zed-2node", "train-2node")


def test_a_lab_is_planned_and_told_as_a_guide(installed: Path, elsewhere: Path) -> None:
    assert "fixtures" in labctl(installed, elsewhere, "plan", "zed-2node")
    assert "put_file" in labctl(installed, elsewhere, "plan", "zed-2node", "--script", "controller")
    assert "Identity: keystone" in labctl(installed, elsewhere, "guide", "train-2node")


KICKSTART = """
from labctl import bases, releases
from labctl.images import kickstart, media
release = releases.get("train")
(medium, *_) = media.installers("centos7", release.rdo.point_release)
print(kickstart.anaconda(bases.get("centos7", "rdo"), release, medium, vault="http://vault.example").text)
"""


def test_what_is_rendered_has_its_templates(installed: Path, elsewhere: Path) -> None:
    assert "%packages" in process.run([installed, "-c", KICKSTART], cwd=elsewhere).stdout
    labctl(installed, elsewhere, "vagrant", "render", "zed-2node", "--to", "rendered")
    assert (elsewhere / "rendered" / "Vagrantfile").read_text() == (ROOT / "vagrant" / "Vagrantfile").read_text()


RECORDED = """
from labctl.lab.choose import draft
from labctl.records import access
from labctl.records.lab import Lab
from labctl.topology import load
path = load.find("zed-2node")
lab = Lab.create(draft(load.load(path)).spec, path)
access.write(lab, lab.context.auth_url, lab.ensure_secrets(lab.plan.secrets()))
"""


def test_the_suite_is_collected_and_nothing_is_written_where_labctl_is_installed(
    installed: Path, elsewhere: Path
) -> None:
    home = {"LABCTL_HOME": str(elsewhere / "home"), "PATH": os.environ["PATH"]}
    process.run([installed, "-c", RECORDED], cwd=elsewhere, env=home)
    before = {path for path in installed.parents[1].rglob("*") if path.suffix != ".pyc"}
    said = labctl(installed, elsewhere, "test", "zed-2node", "-n", "0", "--", "--collect-only", "--destructive", "-q")
    assert [name for name in SUITE if name not in said] == []
    after = {path for path in installed.parents[1].rglob("*") if path.suffix != ".pyc"}
    assert {path.name for path in after - before} <= {"__pycache__"}


def test_the_night_is_found(installed: Path, elsewhere: Path) -> None:
    cells = json.loads(labctl(installed, elsewhere, "nightly", "cells", "-o", "json"))
    assert any(cell["cell"].startswith("train-2node") for cell in cells)


def test_a_topology_of_ones_own_is_taken_from_the_directory(installed: Path, elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text(SMALL)
    assert "mine.yaml: valid" in labctl(installed, elsewhere, "validate", "./mine.yaml")


def test_the_units_of_the_timer_are_found(installed: Path, elsewhere: Path) -> None:
    labctl(installed, elsewhere, "gc", "--install-timer", str(elsewhere))
    assert " gc --expired\n" in (elsewhere / "labctl-gc.service").read_text()
    assert "OnUnitInactiveSec=" in (elsewhere / "labctl-gc.timer").read_text()
