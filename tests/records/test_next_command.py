"""The command that goes on with a lab means that very lab, wherever it is typed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import typer
from support import ROOT, SMALL, TOPOLOGIES, specify, write

from labctl import drivers
from labctl.cli import app
from labctl.commands.wanted import Wanted
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.images import media
from labctl.lab.choose import choose, obstacle
from labctl.lab.up import IDENTITY
from labctl.records import hints
from labctl.records.lab import Lab
from labctl.releases import RELEASES
from labctl.topology.load import load
from labctl.topology.spec import LabSpec

CLOUD = "lab:other"
TWO = SMALL.replace("bases: [debian12]", "bases: [centos7, debian12]").replace("release: zed", "release: train")
TWO = TWO.replace("drivers: [nspawn]", "drivers: [nspawn, libvirt]")


@pytest.fixture(autouse=True)
def everything_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "missing", lambda base, release: None)
    for name in (*drivers.DRIVERS, f"openstack:{CLOUD}"):
        monkeypatch.setitem(drivers.LOADED, name, Fake())


def typed(command: str) -> LabSpec:
    """The lab that a command line means."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("labctl", "up")
    up = typer.main.get_command(app).commands["up"]
    given = up.make_context("up", words).params
    wanted = Wanted(**{key: given[key] for key in ("topology", "name", "release", "base", "driver", "cloud")})
    return wanted.specify()[0]


def labs(path: Path) -> list[LabSpec]:
    """Every lab that can be made of a topology's layout."""
    found = []
    for release in RELEASES.values():
        try:
            topology = load(path, release.name)
        except LabError:  # the layout has what this release has not
            continue
        for base in topology.bases:
            for driver in topology.drivers:
                if obstacle(release, base, driver) is None:
                    cloud = CLOUD if drivers.DRIVERS[driver].clouds else None
                    found.append(choose(topology, name="mine", base=base, driver=driver, cloud=cloud).spec)
    return found


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_the_command_means_the_same_lab(path: Path) -> None:
    for spec in labs(path):
        again_spec = typed(hints.up(spec, path))
        assert again_spec.name == "mine"
        assert [getattr(again_spec, f) for f in IDENTITY] == [getattr(spec, f) for f in IDENTITY]


def test_only_what_the_topology_does_not_say_by_itself_is_an_option(tmp_path: Path) -> None:
    zed = ROOT / "topologies" / "zed-2node.yaml"
    assert hints.up(specify(zed), zed) == "labctl up zed-2node"
    assert hints.up(specify(zed, name="mine"), zed) == "labctl up zed-2node --name mine"
    assert hints.up(specify(zed), zed, "NAME") == "labctl up zed-2node --name NAME"

    path = write(tmp_path, TWO, "my lab.yaml")
    spec = choose(load(path)).spec
    assert (spec.base, hints.up(spec, path)) == ("debian12", f"labctl up '{path}' --base debian12")
    spec = choose(load(path), driver="libvirt").spec
    assert (spec.base, hints.up(spec, path)) == ("centos7", f"labctl up '{path}' --driver libvirt")


def test_a_topology_that_is_gone_leaves_nothing_to_guess(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    spec = specify(path, name="mine")
    path.unlink()
    assert hints.up(spec, path) == f"labctl up {path} --name mine --release train --base debian12 --driver nspawn"


def test_a_recorded_lab_knows_its_command_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    lab = Lab.create(specify(Path("lab.yaml")), Path("lab.yaml"))
    monkeypatch.chdir(os.sep)
    assert lab.up() == f"labctl up {tmp_path}/lab.yaml"
    assert Lab.load("small").up() == lab.up()


def test_a_lab_that_is_not_there_is_made_of_the_topology_of_its_name() -> None:
    for name, topology in (("train-2node", "train-2node"), ("nope", "zed-2node")):
        with pytest.raises(LabError) as raised:
            Lab.load(name)
        assert raised.value.hint == f"labctl list; labctl up {topology} creates one"
