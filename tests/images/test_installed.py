"""Golden disks made by installers: made once, kept by content, proven before they are published."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT, specify
from test_kickstart import installation_iso

from labctl import bases, releases
from labctl.drivers.libvirt.domain import DirectBoot, Firmware
from labctl.drivers.libvirt.machine import _boot_of
from labctl.errors import LabError
from labctl.images import golden, installed, installer, kickstart, kvm, media, vm
from labctl.topology.model import VAULT

TRAIN = ROOT / "topologies" / "train-2node.yaml"


@pytest.fixture
def medium(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> media.Medium:
    """A disc laid out like CentOS's, in the place of the catalogue's."""
    made = installation_iso(tmp_path / "a.iso", "CentOS 7 x86_64")
    found = replace(media.get("CentOS-7-x86_64-Minimal-2009.iso"), sha256=media.digest(made))
    monkeypatch.setattr(media, "CATALOGUE", (found,))
    media.add(made)
    return found


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for QEMU that installs at once; the file that it writes its command lines to."""
    program, log = tmp_path / "qemu", tmp_path / "runs"
    program.write_text(
        f'#!/bin/sh\necho "$*" >>{log}\n'
        f'for w in "$@"; do case $w in file:*) echo "{kickstart.MARKER}" >>"${{w#file:}}" ;; esac; done\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(installer, "QEMU", str(program))
    verdict = kvm.Verdict(kvm.Device(False, False, 0, False, "none"), (), False, None)
    monkeypatch.setattr(kvm, "examine", lambda: verdict)
    log.touch()
    return log


def test_a_disk_is_installed_once_and_kept(medium: media.Medium, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "prove", lambda *a, **k: "CentOS Linux 7 (Core)")
    spec = specify(TRAIN, base="centos7")
    image = golden.disk(spec)
    assert image.name.startswith("installed-centos7-")
    assert sorted(p.name for p in image.iterdir()) == ["console.log", "manifest.json", "tree"]
    assert vm.disk_size(image) == installed.DISK * 2**30
    manifest = json.loads((image / "manifest.json").read_text())
    assert (manifest["system"], manifest["accelerated"]) == ("CentOS Linux 7 (Core)", False)
    assert golden.disk(spec) == image
    (line,) = runs.read_text().splitlines()
    assert str(media.path_of(medium)) in line
    assert isinstance(_boot_of(image), Firmware)


def test_a_medium_that_was_changed_in_the_store_is_not_opened(medium: media.Medium, runs: Path) -> None:
    with media.path_of(medium).open("ab") as sink:
        sink.write(b"x")
    with pytest.raises(LabError, match=r"2009\.iso does not match its checksum"):
        installed.ensure(bases.get("centos7", "rdo"), releases.get("train"))
    assert runs.read_text() == ""


def test_the_console_of_a_failed_installation_is_kept(medium: media.Medium, runs: Path) -> None:
    says = 'for w in "$@"; do case $w in file:*) echo "Pane is dead" >>"${w#file:}" ;; esac; done'
    Path(installer.QEMU).write_text(f"#!/bin/sh\n{says}\nexec sleep 60\n")
    with pytest.raises(LabError, match="Anaconda crashed") as raised:
        installed.ensure(bases.get("centos7", "rdo"), releases.get("train"))
    console = Path(raised.value.hint.removeprefix("less -R "))
    assert console.read_text() == "Pane is dead\n"
    assert not list(media.directory().parent.glob(".building-*"))


def test_a_release_has_a_disk_of_its_own(medium: media.Medium, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "prove", lambda *a, **k: "x")
    base = bases.get("centos7", "rdo")
    made = {installed.ensure(base, releases.get(name)) for name in ("train", "rocky")}
    made.add(installed.ensure(base, releases.get("train"), "http://copy.example/vault"))
    assert len(made) == 3


def test_a_disk_that_does_not_boot_is_not_kept(
    medium: media.Medium, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise LabError("the machine stopped before SSH answered")

    monkeypatch.setattr(installed, "prove", refuse)
    with pytest.raises(LabError, match="stopped before SSH answered"):
        installed.ensure(bases.get("centos7", "rdo"), releases.get("train"))
    assert not list(media.directory().parent.glob("*installed*/manifest.json"))


def test_a_machine_that_ends_before_ssh_answers_is_told_with_its_console(runs: Path, tmp_path: Path) -> None:
    from labctl.host import process

    process.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "disk.qcow2", "1G"])
    with pytest.raises(LabError, match="stopped before SSH answered") as raised:
        installed.prove(tmp_path / "disk.qcow2", tmp_path, kvm=False, seconds=70)
    assert kickstart.MARKER in raised.value.message


def test_a_tree_is_started_by_the_kernel_beside_it(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/vmlinuz").touch()
    assert isinstance(_boot_of(tmp_path), DirectBoot)


def test_the_mirror_is_the_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "debian.sources"
    monkeypatch.setattr("labctl.images.apt.SOURCES", (path,))
    path.write_text("Types: deb\nURIs: http://mirror.example/debian/\nSuites: bookworm\n")
    assert installed.mirror() == "http://mirror.example/debian"
    path.write_text("deb [signed-by=/k] http://mirror.example/debian bookworm main\n")
    assert installed.mirror() == "http://mirror.example/debian"
    path.write_text("deb https://mirror.example/debian bookworm main\n")
    with pytest.raises(LabError, match="name no http mirror"):
        installed.mirror()


def test_what_is_installed_depends_on_the_answers_and_the_installer() -> None:
    base = bases.get("debian12", "debian")
    first = kickstart.preseed(base, "http://mirror.example/debian")
    other = kickstart.preseed(base, "http://mirror.example/debian", timezone="Asia/Seoul")
    medium = Path("CentOS.iso")
    names = {installed.recipe(base, a, medium).name for a in (first, other)}
    names.add(installed.recipe(base, first, Path("another.iso")).name)
    assert len(names) == 3
    assert VAULT == "http://vault.centos.org"
