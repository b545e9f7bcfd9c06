"""What libvirt is told, what lies on a machine's disks and in its seed: without a libvirt."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as tree

import pycdlib
import pytest
import yaml
from support import SMALL, specify, write

from labctl import process
from labctl.drivers.libvirt import Libvirt, disks, machine, memory, seed
from labctl.drivers.libvirt.domain import (
    Accelerator,
    Card,
    DirectBoot,
    Disk,
    Domain,
    Firmware,
    Mark,
    domain_name,
    moved,
    read_mark,
)
from labctl.errors import BrokenLabError, LabError
from labctl.images import vm
from labctl.lab.state import MEMORY, LabState

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
def lab(tmp_path: Path, home: Path) -> LabState:
    path = write(tmp_path, SMALL.replace("runs: [etcd]", "disks: {data: 1 GiB}\n    runs: [etcd]"))
    state = LabState.create(specify(path, name="mine"), path)
    state.ensure_keys()
    return state


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
def test_each_layer_stands_on_the_one_below_and_the_first_on_the_image(lab: LabState, image: Path) -> None:
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
def test_a_disk_that_is_there_is_left_as_it_is(lab: LabState, image: Path) -> None:
    disks.create(lab, "first", image)
    before = disks.root(lab, "first").stat()
    disks.create(lab, "first", image)
    assert disks.root(lab, "first").stat() == before


@needs_qemu_img
def test_a_layer_that_is_gone_is_named(lab: LabState, image: Path) -> None:
    lab.meta["stack"] = ["2", "1", "0"]
    lab.layer("2").mkdir()
    with pytest.raises(BrokenLabError, match=f"{lab.layer('0')}, on which mine stands, is gone"):
        disks.create(lab, "first", image)


@needs_qemu_img
def test_disks_that_cannot_be_are_refused(lab: LabState, image: Path) -> None:
    spec = lab.spec.nodes["second"]
    small = lab.spec.model_copy(update={"nodes": {"second": spec.model_copy(update={"disk": 2**30})}})
    lab.spec = small
    with pytest.raises(LabError, match="second has a disk of 1 GiB, the image needs 2 GiB"):
        disks.create(lab, "second", image)
    long = spec.disks[0].model_copy(update={"name": "a-name-of-21-letters-"})
    lab.spec = lab.spec.model_copy(update={"nodes": {"second": spec.model_copy(update={"disks": (long,)})}})
    with pytest.raises(LabError, match="has up to 20 letters"):
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


def test_a_seed_makes_a_disk_this_node(lab: LabState) -> None:
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


def test_a_seed_is_one_that_cloud_init_reads(lab: LabState) -> None:
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


def test_initiators_of_a_lab_are_told_apart(lab: LabState) -> None:
    name = "etc/iscsi/initiatorname.iscsi"
    assert seed.files(lab, "first")[name] != seed.files(lab, "second")[name]


# --- memory ----------------------------------------------------------------------------------------


def saved(lab: LabState, number: str, node: str) -> Path:
    path = lab.layer(number) / node / MEMORY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("memory")
    (path.parent / disks.FACTS).write_text(json.dumps({"of": seed.mark(lab, node)}))
    return path


def test_a_machine_at_rest_goes_on_once_from_its_own_layer(lab: LabState) -> None:
    assert memory.pending(lab, "first") is None
    path = saved(lab, "1", "first")
    assert memory.pending(lab, "first") == path
    memory.spend(lab, "first")
    assert memory.pending(lab, "first") is None


def test_machines_over_a_frozen_layer_go_on_from_its_memory_which_stays(lab: LabState) -> None:
    path = saved(lab, "1", "first")
    lab.layer("2").mkdir()
    memory.branch(lab, ("1",), "2")
    lab.meta["stack"] = ["2", "1"]
    assert (memory.pending(lab, "first"), memory.pending(lab, "second")) == (path, None)

    memory.spend(lab, "first")
    assert memory.pending(lab, "first") is None
    assert path.exists()


def test_a_copy_of_a_lab_starts_from_the_disks(lab: LabState) -> None:
    saved(lab, "1", "first")
    lab.layer("2").mkdir()
    lab.meta.update({"id": "another", "stack": ["2", "1"]})
    memory.branch(lab, ("1",), "2")
    assert memory.pending(lab, "first") is None


def test_memory_that_is_gone_is_an_error_and_no_cold_start(lab: LabState) -> None:
    path = saved(lab, "1", "first")
    lab.layer("2").mkdir()
    memory.branch(lab, ("1",), "2")
    lab.meta["stack"] = ["2", "1"]
    path.unlink()
    with pytest.raises(BrokenLabError, match="with which first goes on, is gone"):
        memory.pending(lab, "first")


class Paused:
    """A domain that remembers in what order things were done."""

    def __init__(self, node: str, done: list[str]) -> None:
        self.node, self.done = node, done

    def resume(self) -> None:
        self.done.append(f"resume {self.node}")


@pytest.fixture
def at_rest(lab: LabState, monkeypatch: pytest.MonkeyPatch) -> tuple[Libvirt, list[str]]:
    """A driver whose lab's machines have their memory saved; and what is done with them from now on."""
    driver, done, domains = Libvirt(), list[str](), dict[str, Paused]()
    for node in lab.spec.nodes:
        saved(lab, "1", node)
        lab.node_directory(node).mkdir(parents=True)

    def load(connection: object, path: Path, node: str) -> None:
        domains[node] = Paused(node, done)

    monkeypatch.setattr(driver, "_domain", lambda lab, node: domains.get(node))
    monkeypatch.setattr(driver, "_description", lambda lab, node: node)
    monkeypatch.setattr(driver, "_end", lambda lab, node: done.append(f"end {node}") or domains.pop(node))
    monkeypatch.setattr(memory, "load", load)
    monkeypatch.setattr(memory, "set_clocks", lambda connect, nodes: done.append(f"clocks {' '.join(nodes)}"))
    monkeypatch.setattr(machine.wiring, "plug_in", lambda spec, node: done.append(f"plug {node.name}"))
    return driver, done


TOGETHER = ["plug first", "plug second", "resume first", "resume second", "clocks first second"]


def test_machines_go_on_together_with_the_last_that_is_loaded(
    lab: LabState, at_rest: tuple[Libvirt, list[str]]
) -> None:
    driver, done = at_rest
    driver.start(lab, "first")
    assert done == []
    driver.start(lab, "second")
    assert done == TOGETHER
    assert memory.pending(lab, "first") is None


def test_one_that_another_has_let_go_on_meanwhile_is_left_alone(
    lab: LabState, at_rest: tuple[Libvirt, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, done = at_rest
    finish = driver._finish

    def late(lab: LabState, node: str) -> None:
        if node == "first":
            driver.start(lab, "second")
        finish(lab, node)

    monkeypatch.setattr(driver, "_finish", late)
    driver.start(lab, "first")
    assert done == TOGETHER


def test_one_whose_memory_is_still_being_loaded_is_not_let_go(
    lab: LabState, at_rest: tuple[Libvirt, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, done = at_rest
    load = memory.load

    def slow(connection: Any, path: Path, node: Any) -> None:
        load(connection, path, node)
        if node == "first":
            driver.start(lab, "second")
            assert done == []

    monkeypatch.setattr(memory, "load", slow)
    driver.start(lab, "first")
    assert done == TOGETHER


def test_memory_that_a_killed_labctl_was_loading_is_loaded_again(
    lab: LabState, at_rest: tuple[Libvirt, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, done = at_rest
    load = memory.load

    def killed(connection: Any, path: Path, node: Any) -> None:
        load(connection, path, node)
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "load", killed)
    with pytest.raises(KeyboardInterrupt):
        driver.start(lab, "first")
    monkeypatch.setattr(memory, "load", load)
    for node in lab.spec.nodes:
        driver.start(lab, node)
    assert done == ["end first", *TOGETHER]


class Answer:
    """A session that says one thing."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, command: str, timeout: float) -> Any:
        return type("Result", (), {"stdout": self.text, "status": 0})


@pytest.mark.parametrize(
    ("accelerator", "flags", "users", "refused"),
    [
        (Accelerator("kvm", "host-passthrough"), ("svm",), "3\n", True),
        (Accelerator("kvm", "host-passthrough"), ("svm",), "0\n", False),
        (Accelerator("kvm", "host-passthrough"), ("vmx",), "3\n", False),
        (Accelerator("qemu", "qemu64"), ("svm",), "3\n", False),
    ],
)
def test_amd_processors_do_not_save_machines_that_have_guests(
    monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator, flags: tuple[str, ...], users: str, refused: bool
) -> None:
    monkeypatch.setattr(memory.kvm, "cpu_flags", lambda: flags)

    def check() -> None:
        memory._refuse_guests_on_amd(["compute"], accelerator, lambda node: Answer(users))  # type: ignore[arg-type,return-value]

    if refused:
        with pytest.raises(LabError, match="compute runs guests under KVM on an AMD processor"):
            check()
    else:
        check()
