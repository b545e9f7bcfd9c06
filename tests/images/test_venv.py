"""What pip is told: a release's pins, and upper constraints that leave them alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labctl import releases
from labctl.images import python, venv
from labctl.releases.model import PackageSource

PUBLISHED = """
nova===20.0.0
openstack-placement===2.0.0
PyMySQL===0.9.3
mock===3.0.5
Django===1.11.24;python_version=='2.7'
Django===2.0.13;python_version=='3.6'
Django===2.1.5;python_version=='3.7'
futures===3.3.0;python_version=='2.7'
numpy===2.0.0;python_version=='3.9'
numpy===2.2.3;python_version>='3.10'
-e git+ssh://somewhere/else
"""
FROM_PYPI = [r for r in releases.RELEASES.values() if PackageSource.PYPI in r.bases.values()]


def limits(minor: str, *pinned: str) -> list[str]:
    return venv.constraints(PUBLISHED, minor, pinned).splitlines()


def test_what_the_release_pins_is_not_constrained_too() -> None:
    assert limits("3.7", "nova==20.6.1", "openstack_placement==2.0.1", "mock<4", "pymysql") == [
        "Django===2.1.5",
        "PyMySQL===0.9.3",
    ]


@pytest.mark.parametrize(("minor", "django"), [("3.6", "2.0.13"), ("3.7", "2.1.5"), ("3.8", "2.1.5")])
def test_a_constraint_is_that_of_the_interpreter_or_the_nearest_older_one(minor: str, django: str) -> None:
    assert f"Django==={django}" in limits(minor)


LATER = [("3.8", []), ("3.9", ["2.0.0"]), ("3.10", ["2.2.3"]), ("3.13", ["2.2.3"])]


@pytest.mark.parametrize(("minor", "numpy"), LATER)
def test_a_constraint_from_a_version_on_holds_for_all_later_ones(minor: str, numpy: list[str]) -> None:
    """numpy 2.2.3 has wheels for Python 3.13: without its constraint an older one is compiled for half an hour."""
    assert [line for line in limits(minor) if line.startswith("numpy")] == [f"numpy==={version}" for version in numpy]


def test_what_only_python_2_was_given_is_left_out() -> None:
    assert not [line for line in limits("3.7") if line.startswith("futures")]


LIBRARIES = {"libvirt0": "9.0.0-4+deb12u2", "libc6": "2.36-9", "novnc": "1:1.3.0-1"}


def made_from(release: releases.Release, packages: dict[str, str]) -> venv.Environment:
    assert release.pypi
    found = python.Interpreter(release.pypi.python[0], "3", *[Path("/")] * 4, None)
    return venv.Environment(release, release.pypi, found, (Path("system"),), Path("python"), packages, "bookworm")


def test_only_a_library_that_is_linked_with_makes_projects_be_built_anew() -> None:
    release = releases.get("train")
    name = made_from(release, LIBRARIES).recipe.name

    assert made_from(release, {**LIBRARIES, "novnc": "1:1.4.0-1", "vim": "9"}).recipe.name == name
    assert made_from(release, {**LIBRARIES, "libc6": "2.36-10"}).recipe.name != name


@pytest.mark.parametrize("release", FROM_PYPI, ids=lambda r: r.name)
def test_a_release_from_pypi_has_its_constraints_and_pins_every_project(release: releases.Release) -> None:
    assert release.pypi
    environment = made_from(release, LIBRARIES)
    pinned = {canonicalize_name(r.name): r for r in map(Requirement, environment.requirements)}
    for minor in release.pypi.python:
        text = venv.constraints(venv.published_constraints(release.name), minor, environment.requirements)
        constrained = {canonicalize_name(line.partition("===")[0]) for line in text.splitlines()}
        assert len(constrained) > 300
        assert "oslo-config" in constrained
        # the services' own pins and the binding of the system's libvirt
        assert not constrained & {canonicalize_name(n) for n in (*release.pins, "libvirt-python")}
    assert str(pinned["libvirt-python"].specifier) == "==9.0.0"


@pytest.mark.parametrize("release", FROM_PYPI, ids=lambda r: r.name)
def test_a_projects_pin_is_in_the_series_that_the_release_documents(release: releases.Release) -> None:
    if releases.PackageSource.RDO not in release.versions:
        pytest.skip("RDO did not build it for a base of labctl's")
    for project, version in release.versions[releases.PackageSource.PYPI].items():
        packaged = release.versions[releases.PackageSource.RDO][project]
        assert version.rpartition(".")[0] == packaged.rpartition(".")[0], project


def test_suites_of_projects_go_and_those_of_libraries_stay(tmp_path: Path) -> None:
    for package, name in (("nova", "tests"), ("horizon", "test"), ("openstack_auth", "tests"), ("networkx", "tests")):
        (tmp_path / package / name).mkdir(parents=True)
    for info, packages in (
        ("nova-20.6.1", "nova"),
        ("horizon-16.2.2", "horizon\nopenstack_auth"),
        ("networkx-2.3", ""),
    ):
        (tmp_path / f"{info}.dist-info").mkdir()
        (tmp_path / f"{info}.dist-info/top_level.txt").write_text(packages + "\n")

    venv._leave_out_tests(tmp_path, ["nova", "horizon"])

    assert sorted(p.parent.name for p in tmp_path.glob("*/test*")) == ["networkx"]
    assert venv.distributions(tmp_path) == {"horizon": "16.2.2", "networkx": "2.3", "nova": "20.6.1"}
