"""What somebody gets who knows nothing but Vagrant: lab.json, and what Vagrant makes of it for either provider."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from support import ROOT, TOPOLOGIES, specify, variants, write

from labctl import __main__
from labctl.components import Component
from labctl.drivers.vagrant import command, document
from labctl.drivers.vagrant.command import Vagrant
from labctl.drivers.vagrant.document import Settings
from labctl.errors import BrokenLabError, LabError
from labctl.host import process
from labctl.images import box as boxes
from labctl.images.box import Box
from labctl.topology.model import NetworkRole
from labctl.topology.spec import LabSpec

GOLDEN = ROOT / "tests/golden/vagrant"
RECORDER = Path(__file__).with_name("recorder.rb")
PROVIDERS = ("libvirt", "virtualbox")
#: Stands for VirtualBox where only its version is asked for.
VBOXMANAGE = '#!/bin/sh\n[ "$1" = --version ] && echo 7.0.10r158379\n'


def settings(base: str, release: str) -> Settings:
    return Settings(document.FOREIGN.get(base) or boxes.known(boxes.box_name(base, release)))


def rendered(spec: LabSpec, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / document.FILE).write_text(document.render(spec, settings(spec.base, spec.release)))
    shutil.copyfile(document.VAGRANTFILE, directory / "Vagrantfile")
    return directory


def compared(request: pytest.FixtureRequest, path: Path, text: str) -> None:
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, "pytest tests/vagrant --update-golden, then look at git diff"


@pytest.mark.parametrize(("path", "base"), variants(), ids=lambda v: v.stem if isinstance(v, Path) else v)
def test_a_rendered_lab_is_what_its_golden_file_says(path: Path, base: str, request: pytest.FixtureRequest) -> None:
    spec = specify(path, base=base, driver="vagrant")
    compared(request, GOLDEN / f"{path.stem}-{base}.json", document.render(spec, settings(base, spec.release)))


def test_a_rendered_lab_holds_nothing_secret_and_is_the_same_each_time() -> None:
    spec = specify(TOPOLOGIES[-1], driver="vagrant")
    text = document.render(spec, settings(spec.base, spec.release))
    assert text == document.render(spec, settings(spec.base, spec.release))
    assert "PRIVATE KEY" not in text
    assert "authorized_keys" not in text


def test_the_card_of_the_provider_network_has_no_address_and_lets_guests_frames_in() -> None:
    spec = specify(ROOT / "topologies/train-2node.yaml", base="debian12", driver="vagrant")
    found = json.loads(document.render(spec, settings(spec.base, spec.release)))
    provider = spec.network(NetworkRole.PROVIDER)
    assert provider is not None
    cards = {card["network"]: card for card in found["nodes"][0]["cards"]}
    assert (cards[provider.name]["address"], cards[provider.name]["promiscuous"]) == ("", True)
    assert (cards["management"]["address"], cards["management"]["promiscuous"]) == ("10.0.0.11", False)


def test_vagrants_own_card_is_known_by_its_address() -> None:
    macs = {document.vagrant_mac(lab, node) for lab in ("one", "two") for node in ("a", "b")}
    assert len(macs) == 4
    assert {mac[:8] for mac in macs} == {document.MAC_PREFIX}
    assert document.MAC_PREFIX in (boxes.FILES / "cards.sh").read_text()


def test_more_cards_than_virtualbox_has_adapters_are_refused() -> None:
    spec = specify(TOPOLOGIES[-1], driver="vagrant")
    node = next(iter(spec.nodes.values()))
    many = node.model_copy(update={"interfaces": node.interfaces[:1] * 8})
    with pytest.raises(LabError, match=f"{node.name} has 8 cards"):
        document.render(spec.model_copy(update={"nodes": {node.name: many}}), settings("debian12", "zed"))


# --- what Vagrant makes of it ------------------------------------------------------------------------

needs_ruby = pytest.mark.skipif(bool(process.missing("ruby")), reason="Ruby is not installed; it comes with vagrant")


@needs_ruby
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ["zed-2node", "mitaka-3node"])
def test_what_a_provider_is_told_is_what_its_golden_file_says(
    name: str, provider: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_ACCELERATOR", "kvm")
    base = "centos7" if name.startswith("mitaka") else "debian12"
    spec = specify(ROOT / f"topologies/{name}.yaml", base=base, driver="vagrant")
    where = rendered(spec, tmp_path / "lab")
    told = process.run(["ruby", RECORDER, where / "Vagrantfile", provider]).stdout.replace(str(where), "DIRECTORY")
    compared(request, GOLDEN / f"{name}-{base}.{provider}.txt", told)


def told(where: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> list[str]:
    """What VirtualBox is told of a rendered lab where VBoxManage answers every question with ``said``."""
    stub = tmp_path / "stub/VBoxManage"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    return process.run(["ruby", RECORDER, where / "Vagrantfile", "virtualbox"]).stdout.splitlines()


def machines(lines: list[str], word: str) -> set[str]:
    return {line.split()[0] for line in lines if word in line}


@needs_ruby
def test_a_machine_that_is_made_again_gets_its_disks_controller_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = rendered(specify(ROOT / "topologies/zed-2node.yaml", driver="vagrant"), tmp_path / "lab")
    new = machines(told(where, tmp_path, monkeypatch, ""), "storagectl")
    assert new
    for node in new:  # `vagrant destroy` leaves the empty folders of the disks, and no id
        (where / "disks" / node).mkdir(parents=True)
        (where / ".vagrant/machines" / node / "virtualbox").mkdir(parents=True)
    assert machines(told(where, tmp_path, monkeypatch, ""), "--name") == new
    for node in new:
        (where / ".vagrant/machines" / node / "virtualbox/id").write_text("4711")
    other, own = 'storagecontrollername0="IDE Controller"', 'storagecontrollername1="labctl"'
    assert machines(told(where, tmp_path, monkeypatch, f"{other}\n{own}"), "--name") == set()
    assert machines(told(where, tmp_path, monkeypatch, other), "--name") == new  # ended before it was made


@needs_ruby
def test_nested_virtualisation_is_asked_for_where_guests_run_and_the_host_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specify(ROOT / "topologies/mitaka-3node.yaml", base="centos7", driver="vagrant")
    where = rendered(spec, tmp_path / "lab")
    guests = {node.name for node in spec.running(Component.NOVA_COMPUTE)}
    assert guests < set(spec.nodes)
    monkeypatch.delenv("LABCTL_ACCELERATOR", raising=False)
    able = "Processor supports nested paging: yes\nProcessor supports nested HW virtualization: yes"
    for said, accelerator, wanted in (
        (able, "", guests),
        (able, "qemu", set()),
        (able.replace("ion: yes", "ion: no"), "", set()),
        ("Processor supports nested paging: yes", "", set()),  # VirtualBox 6.0
        ("", "kvm", guests),
    ):
        monkeypatch.setenv("LABCTL_ACCELERATOR", accelerator)
        assert machines(told(where, tmp_path, monkeypatch, said), "--nested-hw-virt") == wanted, (said, accelerator)


def vagrant(directory: Path) -> Vagrant:
    if not command.installed():
        pytest.skip("Vagrant is not installed: apt-get install vagrant vagrant-libvirt")
    return Vagrant(directory, directory / "log")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with Vagrant's own files apart from the user's, and a stand-in for VirtualBox on the path."""
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant.d"))
    stub = tmp_path / "bin/VBoxManage"
    stub.parent.mkdir()
    stub.write_text(VBOXMANAGE)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{'/usr/sbin:/usr/bin:/sbin:/bin'}")
    return tmp_path


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_vagrant_finds_every_topology_valid(
    path: Path, provider: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAGRANT_DEFAULT_PROVIDER", provider)
    spec = specify(path, driver="vagrant", **({"base": "centos7"} if path.stem == "mitaka-3node" else {}))
    client = vagrant(rendered(spec, alone / "lab"))
    client.validate()


def test_what_vagrant_says_of_an_error_is_shown_in_full(alone: Path) -> None:
    client = vagrant(alone / "lab")
    (alone / "lab").mkdir()
    (alone / "lab/Vagrantfile").write_text('Vagrant.configure("2") { |config| config.vm.nonsense = 1 }\n')
    with pytest.raises(BrokenLabError) as caught:
        client.validate()
    assert "failed with status 1" in caught.value.message
    assert "nonsense" in caught.value.message
    assert str(alone / "lab") in caught.value.hint


def test_plugins_and_version_are_read(alone: Path) -> None:
    client = vagrant(alone)
    assert client.version()[0].isdigit()
    assert set(client.plugins()) <= {command.PLUGIN, *client.plugins()}


# --- the verb ------------------------------------------------------------------------------------------


def labctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["labctl", *words])
    with pytest.raises(SystemExit) as left:
        __main__.run()
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_render_writes_both_files_and_says_which_box_is_to_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "made"
    status, out, _ = labctl(capsys, monkeypatch, "vagrant", "render", "zed-2node", "--to", str(to), "--name", "mine")
    assert status == 0
    assert "labctl vagrant box debian12 --release zed" in out
    assert (to / "Vagrantfile").read_text() == document.VAGRANTFILE.read_text()
    assert json.loads((to / "lab.json").read_text())["prefix"] == "labctl.mine."


def test_another_box_comes_with_its_version_and_checksum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "--box",
        "debian/bookworm64",
        "--box-version",
        "12.1",
        "--box-url",
        "file:///b.box",
        "--box-checksum",
        "ab",
    ]
    assert labctl(capsys, monkeypatch, "vagrant", "render", "zed-2node", "--to", str(tmp_path), *words)[0] == 0
    found = json.loads((tmp_path / "lab.json").read_text())
    assert found["box"] == vars(Box("debian/bookworm64", "12.1", "file:///b.box", "ab", own=False))
    assert list(found["nodes"][0]["files"]) == ["/etc/hosts"]

    status, _, err = labctl(capsys, monkeypatch, "vagrant", "render", "zed-2node", "--box-version", "1")
    assert status == 1
    assert "--box NAME" in err


def test_boxes_are_listed_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = labctl(capsys, monkeypatch, "vagrant", "boxes", "-o", "json")
    assert (status, json.loads(out)) == (0, [])


def test_a_box_of_what_labctl_makes_none_of_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = labctl(capsys, monkeypatch, "vagrant", "box", "centos7")
    assert status == 1
    assert "labctl builds no box of centos7; releases for it: none" in err


def test_a_topology_that_names_other_drivers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = labctl(capsys, monkeypatch, "vagrant", "render", str(write(tmp_path)), "--to", str(tmp_path / "x"))
    assert status == 1
    assert "does not run on the driver 'vagrant'" in err
    assert not (tmp_path / "x").exists()
