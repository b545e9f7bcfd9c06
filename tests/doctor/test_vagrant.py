"""What doctor says of Vagrant and VirtualBox, with programs that stand for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.doctor import vagrant
from labctl.doctor.host import Finding, State

Install = Callable[[str, str], None]
PLUGINS = "1,,plugin-name,vagrant-libvirt\\n1,vagrant-libvirt,plugin-version,{}%!(VAGRANT_COMMA) system"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a shell program on a path that has else only what programs need."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "timeout", "printf"):
        (place / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant.d"))
    monkeypatch.setattr(vagrant, "MODULES", tmp_path / "modules")

    def made(name: str, body: str) -> None:
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)

    return made


def vagrant_program(version: str, plugin: str = "") -> str:
    listed = f"printf '{PLUGINS.format(plugin).replace('%', '%%')}\\n'" if plugin else ":"
    return f'case "$1" in --version) echo "Vagrant {version}" ;; plugin) {listed} ;; esac'


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.check: f for f in findings}


def test_without_vagrant_one_note_says_what_to_install(install: Install) -> None:
    (found,) = vagrant.examine()
    assert found.state is State.NOTE
    assert "apt-get install" in found.hint


def test_versions_of_vagrant_and_plugin_are_told(install: Install) -> None:
    install("vagrant", vagrant_program("2.3.4", "0.11.2"))
    found = by_name(vagrant.examine())
    assert (found["Vagrant"].state, found["Vagrant"].found) == (State.OK, "2.3.4")
    assert (found["vagrant-libvirt"].state, found["vagrant-libvirt"].found) == (State.OK, "0.11.2")
    assert found["dnsmasq"].state is State.NOTE
    assert found["VirtualBox"].state is State.NOTE
    assert "free for boxes" in found["Vagrant's disk"].found


def test_what_is_too_old_or_missing_is_named(install: Install) -> None:
    install("vagrant", vagrant_program("2.0.2"))
    found = by_name(vagrant.examine())
    assert (found["Vagrant"].state, found["Vagrant"].found) == (State.PROBLEM, "2.0.2 is older than 2.3")
    assert found["vagrant-libvirt"].state is State.NOTE
    install("vagrant", vagrant_program("2.3.4", "0.0.45"))
    assert "0.0.45 is older than 0.9" in by_name(vagrant.examine())["vagrant-libvirt"].found


def test_a_vagrant_that_fails_is_quoted(install: Install) -> None:
    install("vagrant", "echo 'Ruby is broken' >&2; exit 3")
    (found,) = vagrant.examine()
    assert found.state is State.PROBLEM
    assert "Ruby is broken" in found.found


def test_a_virtualbox_that_vagrant_does_not_know_yet_is_a_problem(install: Install) -> None:
    install("VBoxManage", 'case "$1" in --version) echo 7.1.4r165100 ;; esac')
    found = by_name(vagrant.virtualbox((2, 3, 4)))
    assert "Vagrant 2.3.4 supports up to 7.0" in found["VirtualBox"].found
    assert by_name(vagrant.virtualbox())["VirtualBox"].state is State.OK


def test_a_module_that_is_not_loaded_and_another_extension_pack_are_problems(install: Install) -> None:
    packs = "printf 'Extension Packs: 1\\nPack no. 0: Oracle\\nVersion:        6.1.50\\n'"
    install("VBoxManage", f'case "$1" in --version) echo "WARNING: vboxdrv"; echo 7.0.10r1 ;; list) {packs} ;; esac')
    found = by_name(vagrant.virtualbox((2, 3, 4)))
    assert found["VirtualBox"].state is State.OK
    assert "vboxconfig" in found["VirtualBox module"].hint
    assert found["VirtualBox extensions"].found == "extension pack 6.1.50 does not match VirtualBox 7.0.10r1"


@pytest.mark.parametrize(("value", "state"), [("Y", State.PROBLEM), ("N", State.NOTE), (None, State.NOTE)])
def test_kvm_beside_virtualbox_is_told(value: str | None, state: State, install: Install, tmp_path: Path) -> None:
    install("VBoxManage", 'case "$1" in --version) echo 7.0.10r1 ;; esac')
    assert "VirtualBox beside KVM" not in by_name(vagrant.virtualbox())
    (tmp_path / "modules/kvm_intel").mkdir(parents=True)
    if value is not None:
        (tmp_path / "modules/kvm/parameters").mkdir(parents=True)
        (tmp_path / "modules/kvm/parameters/enable_virt_at_load").write_text(f"{value}\n")
    found = by_name(vagrant.virtualbox())["VirtualBox beside KVM"]
    assert found.state is state
    assert "modprobe -r kvm_intel" in found.hint
