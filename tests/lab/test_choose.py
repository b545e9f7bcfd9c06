"""What a lab stands on: which base is taken, what is told of the others, and what another release changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ROOT, SMALL, write

from labctl import bases, drivers, progress
from labctl.drivers.base import Capabilities
from labctl.drivers.fake import Fake
from labctl.errors import LabError
from labctl.images import media
from labctl.lab.choose import choose, draft
from labctl.lab.titles import SOURCE_TITLES, describe
from labctl.releases import PackageSource
from labctl.topology.load import load
from labctl.topology.model import Mechanism, Topology, VolumeBackend


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Topology:
    """A Train topology for CentOS 7, whose medium is not here, or Debian 12."""
    monkeypatch.setitem(drivers.LOADED, "libvirt", Fake())
    text = SMALL.replace("release: zed", "release: train").replace("[debian12]", "[centos7, debian12]")
    return load(write(tmp_path, text.replace("[nspawn]", "[nspawn, libvirt]")))


def test_a_base_that_the_driver_cannot_run_is_passed_over_with_the_reason(train: Topology) -> None:
    choice = choose(train)
    assert (choice.spec.base, choice.spec.package_source) == ("debian12", "pypi")
    assert choice.passed_over == ("centos7 not used: needs virtual machines; the driver here is nspawn",)
    assert describe(choice.spec) == "Train from PyPI on Debian 12 (documented: CentOS 7)"


def test_the_choice_is_told_as_progress(train: Topology) -> None:
    seen: list[str] = []
    with progress.subscribed(lambda event: seen.append(f"{event.where}: {event.text}")):
        choose(train, name="mine").announce()
    assert seen == [
        "lab: centos7 not used: needs virtual machines; the driver here is nspawn",
        "lab: mine: Train from PyPI on Debian 12 (documented: CentOS 7)",
    ]


def test_a_base_that_is_asked_for_is_taken_or_the_reason_is_told(train: Topology) -> None:
    assert choose(train, base="debian12").passed_over == ()
    with pytest.raises(LabError) as raised:
        choose(train, base="centos7", driver="nspawn")
    assert raised.value.message == (
        "small cannot run on centos7 here: needs virtual machines; the driver here is nspawn"
    )
    assert raised.value.hint == "--base debian12"
    with pytest.raises(LabError, match="small does not run on debian11; supported: centos7, debian12"):
        choose(train, base="debian11")


def test_a_base_that_is_asked_for_gets_a_driver_that_can_make_it() -> None:
    """And its medium: which file, where it is, its checksum, and the base that works without."""
    topology = load(ROOT / "topologies" / "train-2node.yaml")
    with pytest.raises(LabError) as raised:
        choose(topology, base="centos7")
    (medium, _) = media.installers("centos7", "7.9.2009")
    assert all(word in raised.value.message for word in (medium.name, medium.url(), medium.sha256))
    assert raised.value.hint == "--base debian12"

    media.directory().mkdir(parents=True)
    media.path_of(medium).touch()
    spec = choose(topology, base="centos7").spec
    assert (spec.driver, spec.base, spec.package_source) == ("libvirt", "centos7", "rdo")


def test_a_lab_can_be_looked_at_where_it_cannot_be_made() -> None:
    topology = load(ROOT / "topologies" / "mitaka-3node.yaml")
    with pytest.raises(LabError, match="CentOS-7-x86_64-Minimal-1611"):
        choose(topology)
    spec = draft(topology).spec
    assert (spec.driver, spec.volume_backend) == ("libvirt", VolumeBackend.LVM)
    with pytest.raises(LabError, match="does not run on debian12"):
        draft(topology, base="debian12")


def test_the_documented_layer_two_agent_is_taken_in_containers_too() -> None:
    topology = load(ROOT / "topologies" / "ussuri-6node.yaml")
    machines, containers = (draft(topology, base=base).spec for base in ("centos8", "debian12"))
    assert machines.mechanism is containers.mechanism is Mechanism.OPENVSWITCH
    assert (machines.userspace_datapath, containers.userspace_datapath) == (False, True)


def test_a_topology_that_fits_nowhere_tells_every_reason(train: Topology) -> None:
    with pytest.raises(LabError) as raised:
        choose(train.model_copy(update={"bases": ("centos7",)}))
    assert raised.value.message == (
        "small cannot run here\n  centos7: needs virtual machines; the driver here is nspawn"
    )


def test_the_documented_base_needs_no_word(tmp_path: Path) -> None:
    choice = choose(load(write(tmp_path)))
    assert choice.passed_over == ()
    assert describe(choice.spec) == "Zed from Debian's packages on Debian 12"


def test_every_base_and_every_source_has_a_title() -> None:
    assert all(b.title.startswith(bases.TITLES[b.name]) for b in bases.BASES.values())
    assert set(SOURCE_TITLES) == set(PackageSource)


def test_a_driver_outside_the_topology_is_refused(tmp_path: Path) -> None:
    topology = load(write(tmp_path))
    with pytest.raises(LabError, match="small does not run on the driver 'libvirt'; supported: nspawn"):
        choose(topology, driver="libvirt")
    with pytest.raises(LabError, match="unknown driver 'nspwan'; did you mean 'nspawn'"):
        choose(topology, driver="nspwan")


# --- back ends -------------------------------------------------------------------------------------


def test_containers_have_no_volume_group(tmp_path: Path) -> None:
    text = SMALL.replace("[nspawn]", "[nspawn, libvirt]") + "options: {volume_backend: lvm}\n"
    with pytest.raises(LabError, match="nodes of the driver 'nspawn' have no device mapper"):
        choose(load(write(tmp_path, text)), driver="nspawn")


def test_volumes_are_a_volume_group_where_nodes_can_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topology = load(write(tmp_path))
    assert choose(topology).spec.volume_backend is VolumeBackend.NFS
    able = Capabilities(
        own_kernel=True, block_devices=True, device_mapper=True, openvswitch=True, vlan=True, nested_kvm=False
    )
    machines = Fake()
    monkeypatch.setattr(machines, "capabilities", lambda: able)
    monkeypatch.setitem(drivers.LOADED, "nspawn", machines)
    assert choose(topology).spec.volume_backend is VolumeBackend.LVM


def test_a_lab_knows_how_slow_its_machines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topology = load(write(tmp_path))
    assert choose(topology).spec.patience == 1
    machines = Fake()
    monkeypatch.setattr(machines, "patience", 12.0)
    monkeypatch.setitem(drivers.LOADED, "nspawn", machines)
    assert choose(topology).spec.patience == 12


# --- another release -------------------------------------------------------------------------------


def test_another_release_runs_on_the_topologys_bases_that_have_it(train: Topology, tmp_path: Path) -> None:
    changed = load(write(tmp_path), "train")
    assert (changed.release, changed.bases) == ("train", ("debian12",))
    choice = choose(changed)
    assert (choice.spec.release, choice.spec.name) == ("train", "small")
    assert describe(choice.spec) == "Train from PyPI on Debian 12 (documented: CentOS 7)"


def test_another_release_brings_its_own_bases_where_the_topologys_do_not_have_it(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("[debian12]", "[centos7]").replace("zed", "mitaka"))
    # containers cannot be CentOS 8, so that is no candidate for a topology that names only them
    assert load(path, "ussuri").bases == ("debian12",)
    path.write_text(path.read_text().replace("[nspawn]", "[nspawn, libvirt]"))
    assert load(path, "ussuri").bases == ("centos8", "debian12")


def test_an_unknown_release_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="unknown release 'trian'; did you mean 'train'"):
        load(write(tmp_path), "trian")


def test_the_rules_look_at_the_release_that_is_asked_for(tmp_path: Path) -> None:
    text = SMALL.replace("[etcd]", "[etcd, placement, keystone]")
    path = write(tmp_path, text)
    assert load(path).release == "zed"
    line = 1 + text.splitlines().index("    runs: [etcd, placement, keystone]")
    with pytest.raises(LabError, match=f"{path}:{line}:.*mitaka has no placement service; remove it from runs"):
        load(path, "mitaka")


TAGGED = """
name: tagged
release: zed
bases: [debian12]
networks:
  management: {cidr: 10.0.0.0/24}
  provider: {cidr: 203.0.113.0/24, vlans: 200-299}
nodes:
  controller:
    memory: 5 GiB
    networks: {management: 10.0.0.11, provider: none}
    runs: [mariadb, rabbitmq, memcached, keystone, neutron-server, neutron-l2, neutron-l3]
"""


def test_tags_without_the_kernel_s_devices_get_open_vswitch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.host.tagging.kernel_has_devices", lambda: True)
    assert choose(load(write(tmp_path, TAGGED))).spec.mechanism is Mechanism.LINUXBRIDGE
    monkeypatch.setattr("labctl.host.tagging.kernel_has_devices", lambda: False)
    assert choose(load(write(tmp_path, TAGGED))).spec.mechanism is Mechanism.OPENVSWITCH
    text = TAGGED + "options: {mechanism: linuxbridge}\n"
    with pytest.raises(LabError, match="tagged has networks with VLAN tags") as raised:
        choose(load(write(tmp_path, text)))
    assert raised.value.hint == "modprobe 8021q; or options: {mechanism: openvswitch} in the topology"
