"""Root in a directory of somebody else: nothing there is imported, and no file there is used without being named."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from support import ROOT, TOPOLOGIES

from labctl import shipped
from labctl.commands import access as verbs
from labctl.errors import LabError
from labctl.host import process
from labctl.nightly import matrix
from labctl.nightly.steps import LABCTL
from labctl.topology import load
from labctl.topology.known import local

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of root's with both files that labctl finds by itself."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    place = tmp_path_factory.mktemp("work")
    (place / "topologies").mkdir()
    shutil.copyfile(TOPOLOGIES[0], place / "topologies/zed-2node.yaml")
    shutil.copyfile(shipped("nightly.yaml"), place / "nightly.yaml")
    monkeypatch.chdir(place)
    return place


def both() -> list[str]:
    """What labctl says of each file that it finds by itself; empty where it uses it."""
    said = []
    for ask in (lambda: load.find("zed-2node"), lambda: matrix.find(None)):
        try:
            assert not ask().is_absolute()
            said.append("")
        except LabError as error:
            said.append(f"{error.message}; {error.hint}")
    return said


def test_own_files_are_found(own: Path) -> None:
    assert both() == ["", ""]


@needs_root
@pytest.mark.parametrize("whose", [".", "topologies", "topologies/zed-2node.yaml", "nightly.yaml"])
def test_what_others_own_is_not_used_unless_it_is_named(own: Path, whose: str) -> None:
    os.chown(own / whose, NOBODY, -1)
    hit = {".": (0, 1), "nightly.yaml": (1,)}.get(whose, (0,))
    for number, said in enumerate(both()):
        assert ("belongs to nobody" in said) == (number in hit), said
        assert number not in hit or str((own / whose).resolve()) in said
    assert load.find("topologies/zed-2node.yaml").is_file()
    assert matrix.find(Path("nightly.yaml")).is_file()


@pytest.mark.parametrize(("mode", "who"), [(0o777, "everybody"), (0o775, "its group")])
@pytest.mark.parametrize("whose", [".", "topologies", "topologies/zed-2node.yaml"])
def test_what_others_can_write_is_not_used(own: Path, whose: str, mode: int, who: str) -> None:
    if os.geteuid() == 0:
        os.chown(own / whose, 0, NOBODY)
    elif who == "its group":
        pytest.skip("the group is the user's own")
    (own / whose).chmod(mode)
    assert f"can be written by {who}" in both()[0]


@needs_root
def test_a_link_of_somebody_is_not_followed(own: Path, tmp_path: Path) -> None:
    (own / "nightly.yaml").rename(own / "real.yaml")
    (own / "nightly.yaml").symlink_to("real.yaml")
    assert both() == ["", ""]
    os.lchown(own / "nightly.yaml", NOBODY, -1)
    assert "belongs to nobody" in both()[1]


@needs_root
def test_a_file_with_the_name_of_a_topology_is_no_topology(own: Path) -> None:
    shutil.copyfile(TOPOLOGIES[0], own / "train-2node")
    assert load.find("train-2node") == Path("train-2node")
    os.chown(own / "train-2node", NOBODY, -1)
    with pytest.raises(LabError, match=r"train-2node was found in this directory .* belongs to nobody"):
        load.find("train-2node")
    assert load.find("./train-2node") == Path("train-2node")


@needs_root
def test_files_of_the_user_who_calls_sudo_are_used(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (own, *own.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    assert both() == ["", ""]
    monkeypatch.setenv("SUDO_UID", str(NOBODY - 1))
    assert all("belongs to nobody" in said for said in both())


def test_labctls_own_files_are_found_in_its_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load.find("zed-2node").resolve() == shipped("topologies") / "zed-2node.yaml"
    assert not local(load.find("zed-2node"))
    assert matrix.find(None).resolve() == shipped("nightly.yaml")


@pytest.mark.parametrize("words", [[sys.executable, "-m", "labctl"], [*LABCTL]], ids=["by hand", "by labctl"])
def test_no_module_of_the_working_directory_is_imported(own: Path, words: list[str]) -> None:
    for name in ("__future__", "pathlib", "typing", "json", "yaml", "typer", "pydantic", "sitecustomize_", "grp"):
        (own / f"{name}.py").write_text(f"raise SystemExit('imported {name}')\n")
    done = process.run([*words, "releases"], cwd=own, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_of_the_directory_that_uses_labctl_finds_its_modules(own: Path) -> None:
    (own / "mine").mkdir()
    (own / "mine/__init__.py").write_text("import labctl\n")
    (own / "mine/run.py").write_text("import other\n")
    (own / "other.py").write_text("print('found')\n")
    assert process.run([sys.executable, "-m", "mine.run"], cwd=own).stdout == "found\n"


def test_labctl_starts_itself_from_its_own_place_only(own: Path) -> None:
    (own / "labctl").mkdir()
    (own / "labctl/__init__.py").write_text("raise SystemExit('imported')\n")
    assert process.run([*LABCTL, "releases"], cwd=own, check=False).returncode == 0


def test_clients_read_the_labs_clouds_and_none_of_the_directory(own: Path, tmp_path: Path) -> None:
    class Stub:
        name, directory = "x", tmp_path

    (tmp_path / "access").mkdir()
    (tmp_path / "access/admin-openrc").write_text("export OS_USERNAME=admin\nexport OS_AUTH_URL=http://controller/\n")
    (tmp_path / "access/clouds.yaml").write_text("clouds: {admin: {auth: {username: own}}}\n")
    (own / "clouds.yaml").write_text("clouds: {evil: {}}\ncache: {class: dogpile.cache.dbm}\n")
    (own / "secure.yaml").write_text("clouds: {evil: {}}\n")
    ask = (
        "from openstack.config.loader import OpenStackConfig as C; c = C(); "
        "print(c.config_filename, sorted(c.get_cloud_names()), c.get_one().config['auth']['username'])"
    )
    said = process.run([sys.executable, "-c", ask], cwd=own, env=verbs._environment(Stub())).stdout  # type: ignore[arg-type]
    assert said == f"{tmp_path}/access/clouds.yaml ['admin', 'envvars'] admin\n"
