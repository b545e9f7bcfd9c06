"""What libvirt is told, what lies on a machine's disks and in its seed: without a libvirt."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as tree

import pycdlib
import pytest
import yaml

from labctl.drivers.libvirt import disks, seed
from labctl.drivers.libvirt.domain import (
    Accelerator,
    Card,
    DirectBoot,
    Disk,
    Domain,
    Firmware,
    Mark,
    domain_name,
    read_mark,
)
from labctl.drivers.libvirt.saved import moved
from labctl.errors import BrokenLabError, LabError
from labctl.host import process
from labctl.images import vm
from labctl.records.lab import Lab
from labctl.topology.spec import CardSpec

MARK = Mark("mine", "12ab34cd", "first", "/var/lib/labctl")
DIRECT = DirectBoot(Path("/store/vmlinuz"), Path("/store/initrd"), "console=ttyS0")


def domain(**changes: Any) -> Domain:
    values: dict[str, Any] = {
        "mark": MARK,
        "accelerator": Accelerator("qemu", "qemu64"),
        "machine": "pc",
        "cpus": 2,
        "memory": 512 * 2**20,
        "boot": DIRECT,
        "disks": [Disk(Path("/lab/root.qcow2"), "_root"), Disk(Path("/lab/seed.iso"), "_seed", readonly=True)],
        "cards": [Card("52:54:00:01:02:03", "port010203")],
        "console": Path("/lab/console.log"),
    }
    return Domain(**{**values, **changes})


def described(**changes: Any) -> tree.Element:
    return tree.fromstring(domain(**changes).xml())


# --- domain ----------------------------------------------------------------------------------------


def test_a_domain_carries_its_labs_mark() -> None:
    text = domain().xml()
    assert read_mark(text) == MARK
    assert tree.fromstring(text).findtext("name") == domain_name("mine", "first") == "labctl.mine.first"
    assert read_mark("<domain><metadata/></domain>") is None


def test_a_node_has_one_uuid_and_no_two_nodes_the_same() -> None:
    others = [Mark("mine", "12ab34cd", "second", ""), Mark("mine", "99999999", "first", "")]
    assert MARK.uuid == Mark("renamed", "12ab34cd", "first", "elsewhere").uuid
    assert len({MARK.uuid, *(m.uuid for m in others)}) == 3


def test_everything_is_virtio_and_random_numbers_come_from_urandom() -> None:
    found = described()
    assert {t.get("bus") for t in found.findall("devices/disk/target")} == {"virtio"}
    assert found.find("devices/interface/model").get("type") == "virtio"  # type: ignore[union-attr]
    assert found.findtext("devices/rng/backend") == "/dev/urandom"
    assert found.find("devices/panic") is not None
    assert found.findtext("on_crash") == "destroy"
    assert [d.findtext("serial") for d in found.findall("devices/disk")] == ["_root", "_seed"]
    assert [d.find("readonly") is not None for d in found.findall("devices/disk")] == [False, True]


def test_a_card_is_a_tap_that_no_network_of_the_host_knows() -> None:
    (card,) = described().findall("devices/interface")
    assert card.get("type") == "ethernet"
    assert card.find("target").get("dev") == "port010203"  # type: ignore[union-attr]


def test_a_kernel_is_booted_directly_or_the_disk_by_its_firmware() -> None:
    direct = described()
    assert direct.findtext("os/kernel") == "/store/vmlinuz"
    assert direct.findtext("os/cmdline") == "console=ttyS0"
    bios = described(boot=Firmware())
    assert bios.find("os/kernel") is None
    assert bios.find("os").get("firmware") is None  # type: ignore[union-attr]
    assert [d.find("boot") is not None for d in bios.findall("devices/disk")] == [True, False]
    assert described(boot=Firmware("efi")).find("os").get("firmware") == "efi"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("accelerator", "mode", "model"),
    [
        (Accelerator("kvm", "host-passthrough"), "host-passthrough", None),
        (Accelerator("qemu", "maximum"), "maximum", None),
        (Accelerator("qemu", "qemu64"), "custom", "qemu64"),
    ],
)
def test_the_cpu_is_what_the_accelerator_says(accelerator: Accelerator, mode: str, model: str | None) -> None:
    found = described(accelerator=accelerator)
    assert found.get("type") == accelerator.type
    assert (found.find("cpu").get("mode"), found.findtext("cpu/model")) == (mode, model)  # type: ignore[union-attr]


def test_disks_beyond_the_26th_have_names_too() -> None:
    many = [Disk(Path(f"/{n}"), f"d{n}") for n in range(28)]
    names = [t.get("dev") for t in described(disks=many).findall("devices/disk/target")]
    assert (names[0], names[25], names[26], names[27]) == ("vda", "vdz", "vdaa", "vdab")


def test_saved_memory_moves_to_the_files_of_a_new_layer() -> None:
    old = domain().xml().replace("<serial>_root", "<backingStore type='file'/><serial>_root")
    new = domain(
        mark=replace(MARK, home="/new"),
        boot=DirectBoot(Path("/new/vmlinuz"), Path("/new/initrd"), "quiet"),
        disks=[Disk(Path("/new/root.qcow2"), "_root")],
        console=Path("/new/console.log"),
    )
    moved_to = moved(old, new)
    found = tree.fromstring(moved_to)
    assert [s.get("file") for s in found.findall("devices/disk/source")] == ["/new/root.qcow2", "/lab/seed.iso"]
    assert found.find("devices/disk/backingStore") is None
    assert found.find("devices/serial/source").get("path") == "/new/console.log"  # type: ignore[union-attr]
    assert (found.findtext("os/kernel"), found.findtext("os/initrd")) == ("/new/vmlinuz", "/new/initrd")
    assert read_mark(moved_to) == new.mark


# --- disks and seed --------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "image/tree").mkdir(parents=True)
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "image/tree/disk.qcow2", "2G"])
    return tmp_path / "image"


needs_qemu_img = pytest.mark.skipif(bool(process.missing("qemu-img")), reason="qemu-img is not installed")


def backing(path: Path) -> str:
    lines = process.output(["qemu-img", "info", path]).splitlines()
    return next((line.split(": ")[1].split(" (")[0] for line in lines if line.startswith("backing file: ")), "")


@needs_qemu_img
def test_each_layer_stands_on_the_one_below_and_the_first_on_the_image(lab: Lab, image: Path) -> None:
    disks.create(lab, "second", image)
    assert backing(disks.root(lab, "second")) == str(image / "tree/disk.qcow2")
    assert backing(disks.additional(lab, "second", "data")) == ""
    assert vm.disk_size(image) == 2 * 2**30

    lab.meta["stack"] = ["2", "1"]
    lab.top.mkdir()
    disks.create(lab, "second", image)
    assert backing(disks.root(lab, "second")) == "../../1/second/root.qcow2"
    assert backing(disks.additional(lab, "second", "data")) == "../../../1/second/disks/data.qcow2"

    lab.meta["stack"] = ["3", "2", "1"]
    lab.top.mkdir()
    disks.discard(lab, "second")
    disks.create(lab, "second", image)
    assert backing(disks.root(lab, "second")) == str(image / "tree/disk.qcow2")
    assert backing(disks.additional(lab, "second", "data")) == ""


@needs_qemu_img
def test_a_disk_that_is_there_is_left_as_it_is(lab: Lab, image: Path) -> None:
    disks.create(lab, "first", image)
    before = disks.root(lab, "first").stat()
    disks.create(lab, "first", image)
    assert disks.root(lab, "first").stat() == before


@needs_qemu_img
def test_a_layer_that_is_gone_is_named(lab: Lab, image: Path) -> None:
    lab.meta["stack"] = ["2", "1", "0"]
    lab.layer("2").mkdir()
    with pytest.raises(BrokenLabError, match=f"the layer {lab.layer('0')}, used by mine, is gone"):
        disks.create(lab, "first", image)


@needs_qemu_img
def test_disks_that_cannot_be_are_refused(lab: Lab, image: Path) -> None:
    spec = lab.spec.nodes["second"]
    small = lab.spec.model_copy(update={"nodes": {"second": spec.model_copy(update={"disk": 2**30})}})
    lab.spec = small
    with pytest.raises(LabError, match="the disk of second has 1 GiB, the image needs 2 GiB"):
        disks.create(lab, "second", image)
    long = spec.disks[0].model_copy(update={"name": "a-name-of-21-letters-"})
    lab.spec = lab.spec.model_copy(update={"nodes": {"second": spec.model_copy(update={"disks": (long,)})}})
    with pytest.raises(LabError, match="is longer than 20 characters"):
        disks.create(lab, "second", image)


def read_iso(data: bytes) -> dict[str, bytes]:
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(data))
    found = {}
    for child in iso.list_children(rr_path="/"):
        if child.is_file():
            buffer = io.BytesIO()
            name = child.rock_ridge.name().decode()
            iso.get_file_from_iso_fp(buffer, rr_path=f"/{name}")
            found[name] = buffer.getvalue()
    assert iso.pvd.volume_identifier.decode().strip() == "cidata"
    iso.close()
    return found


def test_a_seed_makes_a_disk_this_node(lab: Lab) -> None:
    found = read_iso(seed.iso(lab, "first"))
    assert set(found) == {"meta-data", "user-data", "network-config", "mark", "node.tar"}
    assert found["mark"].decode() == f"mine {lab.id} first\n"

    with tarfile.open(fileobj=io.BytesIO(found["node.tar"])) as tar:
        modes = {m.name: m.mode for m in tar.getmembers()}
        content = {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers()}  # type: ignore[union-attr]
    assert content["etc/hostname"] == "first\n"
    assert content["etc/ssh/ssh_host_ed25519_key"] == lab.host_private_key("first")
    assert modes["etc/ssh/ssh_host_ed25519_key"] == modes["root/.ssh/authorized_keys"] == 0o600
    assert "address replace 10.0.0.11/24 dev eth0" in content["etc/labctl/network"].splitlines()
    assert "route replace default via 10.0.0.1" in content["etc/labctl/network"].splitlines()


def test_a_seed_is_one_that_cloud_init_reads(lab: Lab) -> None:
    found = read_iso(seed.iso(lab, "first"))
    assert found["user-data"].startswith(b"#cloud-config\n")
    user = yaml.safe_load(found["user-data"])
    assert user["ssh_keys"]["ed25519_public"] == lab.host_key("first")
    assert user["users"][0]["ssh_authorized_keys"] == [lab.public_key().strip()]
    assert yaml.safe_load(found["meta-data"])["local-hostname"] == "first"
    card = lab.spec.nodes["first"].interfaces[0]
    entry = yaml.safe_load(found["network-config"])["ethernets"]["eth0"]
    assert entry["match"] == {"macaddress": card.mac}
    assert entry["addresses"] == ["10.0.0.11/24"]


def test_initiators_of_a_lab_are_told_apart_by_names_that_targets_accept(lab: Lab) -> None:
    lines = [seed.files(lab, node)["etc/iscsi/initiatorname.iscsi"][0].decode() for node in ("first", "second")]
    assert lines[0] != lines[1]
    for line in lines:  # RFC 3720, 3.2.6.3.1; rtslib, which is LIO's, wants the domain's dot too
        assert re.fullmatch(r"InitiatorName=iqn\.\d{4}-[01]\d(\.[a-z0-9-]+){2,}:[a-z0-9.:-]{1,190}\n", line)


def test_a_bond_is_made_of_its_cards_before_it_has_its_address(lab: Lab) -> None:
    (card,) = lab.spec.nodes["first"].interfaces
    members = tuple(CardSpec(name=f"eth{i}", mac=f"52:54:00:00:00:0{i}") for i in (0, 1))
    bond = card.model_copy(update={"name": "bond0", "mac": members[0].mac, "members": members})
    jumbo = lab.spec.networks["management"].model_copy(update={"mtu": 9000})
    node = lab.spec.nodes["first"].model_copy(update={"interfaces": (bond,)})
    update = {"nodes": {**lab.spec.nodes, "first": node}, "networks": {"management": jumbo}}
    lab.spec = lab.spec.model_copy(update=update)
    assert seed.cards(lab.spec, "first").splitlines() == [
        "link set lo up",
        "link add name bond0 address 52:54:00:00:00:00 type bond mode active-backup miimon 100",
        "link set eth0 down",
        "link set eth0 master bond0",
        "link set eth1 down",
        "link set eth1 master bond0",
        "link set bond0 mtu 9000",
        "address replace 10.0.0.11/24 dev bond0",
        "link set bond0 up",
        "route replace default via 10.0.0.1",
    ]
    told = yaml.safe_load(read_iso(seed.iso(lab, "first"))["network-config"])
    assert {name: entry["match"]["macaddress"] for name, entry in told["ethernets"].items()} == {
        member.name: member.mac for member in members
    }
    assert told["bonds"]["bond0"]["interfaces"] == ["eth0", "eth1"]
    assert (told["bonds"]["bond0"]["addresses"], told["bonds"]["bond0"]["mtu"]) == (["10.0.0.11/24"], 9000)


def test_libvirt_is_told_the_size_of_packets_only_where_it_is_another() -> None:
    assert described().find("devices/interface/mtu") is None
    found = described(cards=[Card("52:54:00:01:02:03", "port010203", 9000)]).find("devices/interface/mtu")
    assert found is not None
    assert found.get("size") == "9000"
