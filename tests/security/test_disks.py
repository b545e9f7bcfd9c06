"""A disk from elsewhere names no file of the host that QEMU would open for its machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labctl.drivers.libvirt import disks
from labctl.errors import LabError
from labctl.host import qcow2
from labctl.records.lab import Lab

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
GOLDEN = "/elsewhere/images/vm-1/tree/disk.qcow2"


def create(path: Path, *options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *options, path, "1M"], check=True)
    return path


def backed(name: str, form: str = "qcow2") -> tuple[str, ...]:
    return "-b", name, "-F", form


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of two layers, as an import leaves it before the driver takes it over."""
    layers = tmp_path / "lab/layers"
    create(layers / "1/first/root.qcow2", *backed(GOLDEN))
    create(layers / "2/first/root.qcow2", *backed("../../1/first/root.qcow2"))
    create(layers / "1/first/disks/data.qcow2")
    create(layers / "2/first/disks/data.qcow2", *backed("../../../1/first/disks/data.qcow2"))
    return cast(Lab, SimpleNamespace(stack=("2", "1"), layer=lambda number: layers / number))


def test_disks_as_labctl_writes_them_are_put_on_this_hosts_image(lab: Lab, tmp_path: Path) -> None:
    disks.adopt(lab, tmp_path / "image")
    assert qcow2.read(lab.layer("1") / "first/root.qcow2").backing == str(tmp_path / "image/tree/disk.qcow2")
    assert qcow2.read(lab.layer("2") / "first/root.qcow2").backing == "../../1/first/root.qcow2"


FORGED: dict[str, tuple[str, tuple[str, ...]]] = {
    "a file of the host": ("2/first/disks/data.qcow2", backed("/etc/shadow", "raw")),
    "a file of the host by a relative path": ("2/first/root.qcow2", backed("../../../../../../etc/shadow")),
    "a raw file of the lab": ("2/first/root.qcow2", backed("../../1/first/root.qcow2", "raw")),
    "another node's disk": ("2/first/root.qcow2", backed("../../1/second/root.qcow2")),
    "itself": ("1/first/disks/data.qcow2", backed("../../../1/first/disks/data.qcow2")),
    "the network": ("2/first/root.qcow2", backed("nbd:10.0.0.1:10809")),
    "a description": ("2/first/root.qcow2", backed('json:{"driver":"raw","file.filename":"/etc/shadow"}')),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_backing_file_that_labctl_did_not_give_it_is_refused(kind: str, lab: Lab, tmp_path: Path) -> None:
    name, options = FORGED[kind]
    path = lab.layer(name[0]) / name[2:]
    path.unlink()
    create(path, *options)
    with pytest.raises(LabError, match="has a backing file that labctl did not give it"):
        disks.adopt(lab, tmp_path / "image")


def _external(path: Path) -> None:
    path.unlink()
    create(path, "-o", f"data_file={path.with_name('outside')}")


def _feature(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[72:80] = (1 << 40).to_bytes(8, "big")
    path.write_bytes(data)


def _raw(path: Path) -> None:
    path.write_bytes(bytes(2**20))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:90])


@pytest.mark.parametrize(
    ("change", "why"),
    [(_external, "external data file"), (_feature, "does not know"), (_raw, "no qcow2 disk"), (_cut, "no qcow2 disk")],
)
def test_a_header_that_labctl_does_not_write_is_refused(
    change: Callable[[Path], Any], why: str, lab: Lab, tmp_path: Path
) -> None:
    change(lab.layer("2") / "first/disks/data.qcow2")
    with pytest.raises(LabError, match=why):
        disks.adopt(lab, tmp_path / "image")
