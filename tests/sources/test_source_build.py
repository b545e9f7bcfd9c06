"""A tree becomes a layer, in the image's chroot; what does not fit or does not build is refused with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import ROOT, specify
from trees import commit, make

from labctl.components import Component
from labctl.errors import LabError, RefusedError
from labctl.host import paths
from labctl.images import store
from labctl.lab import source
from labctl.sources import build, given
from labctl.sources.build import Home
from labctl.topology.spec import LabSpec, SourceSpec

pytestmark = pytest.mark.system


@pytest.fixture
def spec() -> LabSpec:
    return specify(ROOT / "topologies" / "zed-2node.yaml")


@pytest.fixture
def home(golden: tuple[Path, ...], spec: LabSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The image's environment, and a store for layers of its own."""
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "home"))
    return Home.of(spec, golden)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = make(tmp_path / "nova")
    commit(place, "26.2.0")
    return place


def made(home: Home, spec: LabSpec, place: Path, *, force: bool = False) -> SourceSpec:
    return build.made(home, spec, given.read(f"nova={place}", source.projects(spec), Path()), force=force)


def files(layer: str) -> dict[str, Path]:
    root = store.tree(layer)
    return {str(path.relative_to(root)): path for path in root.rglob("*") if not path.is_dir()}


def built(kind: str) -> set[str]:
    return {path.name for path in paths.images().glob(f"{kind}-*")}


def test_a_layer_has_what_an_installation_has_and_an_edit_costs_only_what_was_edited(
    home: Home, spec: LabSpec, place: Path
) -> None:
    first = made(home, spec, place)
    assert (first.version, first.origin, first.dirty, len(first.commit)) == ("26.2.0", str(place), False, 40)
    found = files(first.layer)
    assert {
        *("site/nova/cmd.py", "site/nova/db/migrations/versions/001_first.py", "bin/nova-hello"),
        *("etc/nova/api-paste.ini", "site/nova-26.2.0.dist-info/entry_points.txt"),
        "site/nova/__pycache__/cmd.cpython-311.pyc",
    } <= found.keys()
    assert not [name for name in found if "/tests/" in name]
    assert found["bin/nova-hello"].read_text().startswith("#!/usr/bin/python3\n")
    assert made(home, spec, place) == first, "the same tree is the same layer"

    parts = built("parts-nova")
    compiled = {name: path.stat().st_mtime_ns for name, path in found.items() if name.endswith(".pyc")}
    (place / "nova" / "cmd.py").write_text("def main():\n    print('other')\n")
    second = made(home, spec, place)
    assert (second.dirty, second.schema_digest) == (True, first.schema_digest)
    assert second.layer != first.layer
    assert built("parts-nova") == parts, "pip ran once"
    after = {name: path.stat().st_mtime_ns for name, path in files(second.layer).items() if name.endswith(".pyc")}
    assert [name for name in compiled if after[name] != compiled[name]] == ["site/nova/__pycache__/cmd.cpython-311.pyc"]

    (place / "nova" / "db" / "migrations" / "versions" / "002_next.py").write_text("revision = '2'\n")
    assert made(home, spec, place).schema_digest != first.schema_digest


def test_a_tree_without_tags_has_the_release_s_version(home: Home, spec: LabSpec, tmp_path: Path) -> None:
    place = make(tmp_path / "nova")
    assert made(home, spec, place).version.startswith("26.")


def test_a_tree_of_another_release_is_refused_unless_it_is_wanted(home: Home, spec: LabSpec, place: Path) -> None:
    commit(place, "27.1.0")
    with pytest.raises(RefusedError, match=r"is nova 27\.1\.0; the release of zed-2node has 26\.") as caught:
        made(home, spec, place)
    assert caught.value.hint.startswith(f"labctl source zed-2node nova={place} --force")
    assert made(home, spec, place, force=True).version == "27.1.0"


def test_requirements_that_the_environment_does_not_meet_are_named(home: Home, spec: LabSpec, place: Path) -> None:
    wanted = "oslo.config>=99.0\nno-such-thing-at-all>=1\npbr>=2.0.0\nWebOb>=1.8\nenum34; python_version<'3.4'\n"
    (place / "requirements.txt").write_text(wanted)
    with pytest.raises(RefusedError) as caught:
        made(home, spec, place)
    lines = caught.value.message.splitlines()
    assert "requires what the environment of zed-2node does not have" in lines[0]
    assert [line.split(";")[0].strip() for line in lines[1:]] == ["no-such-thing-at-all>=1", "oslo.config>=99.0"]
    assert "it has none" in lines[1]
    assert made(home, spec, place, force=True).layer


def test_a_build_that_fails_says_its_last_lines_and_the_log(home: Home, spec: LabSpec, place: Path) -> None:
    (place / "setup.py").write_text("raise SystemExit('this tree does not build')\n")
    before = built("parts-nova")
    with pytest.raises(LabError, match="this tree does not build") as caught:
        made(home, spec, place)
    assert ".log" in str(caught.value.message) + caught.value.hint
    assert built("parts-nova") == before


def test_a_tree_of_another_project_is_refused(home: Home, spec: LabSpec, tmp_path: Path) -> None:
    place = make(tmp_path / "other", "other")
    commit(place, "26.2.0")
    with pytest.raises(RefusedError, match="is the project other, not nova"):
        made(home, spec, place)


def test_a_tree_with_the_release_s_modules_has_the_release_s_tables(home: Home, spec: LabSpec, place: Path) -> None:
    """Layer upon layer, as a node sees them; what Debian's image rewrites of a package lies in an upper one."""
    for layer in reversed(home.layers):
        for site in (layer / "tree").glob(home.modules):
            if (site / "nova" / "db").is_dir():
                shutil.copytree(site / "nova" / "db", place / "nova" / "db", dirs_exist_ok=True)
    (place / "nova" / "db" / "migrations" / "versions" / "001_first.py").unlink()
    assert home.schema("nova") == made(home, spec, place).schema_digest != ""
    assert home.schema("horizon") == ""


def test_what_a_lab_s_projects_are(spec: LabSpec) -> None:
    assert {"keystone", "nova", "neutron", "swift"} <= set(source.projects(spec))
    assert "horizon" not in source.projects(spec)
    assert spec.has(Component.HORIZON)
