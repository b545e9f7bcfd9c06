"""A driver and a lab for tests of real machines, which leave nothing behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny
from real import STORE, golden_image, usable
from support import specify, write

from labctl import drivers
from labctl.drivers.base import Driver
from labctl.drivers.fake import Fake
from labctl.drivers.libvirt.machine import Libvirt
from labctl.drivers.nspawn import Nspawn
from labctl.drivers.openstack.machine import OpenStack
from labctl.drivers.vagrant.machine import VagrantMachines
from labctl.host import paths
from labctl.images import box, cloud, kvm, vm
from labctl.lab.down import remains
from labctl.records.lab import Lab
from labctl.topology.spec import LabSpec

NODE, OTHER = "first", "second"


def nspawn() -> tuple[Driver, list[str]]:
    return usable(Nspawn()), [str(layer) for layer in golden_image()]


def libvirt() -> tuple[Driver, list[str]]:
    return usable(Libvirt(autodestroy=True)), [str(vm.ensure((tiny.ensure(),)))]


def vagrant() -> tuple[Driver, list[str]]:
    return usable(VagrantMachines()), [str(box.ensure(tiny.box_layers()))]


#: The lab that is the cloud of the tests: of the home with the golden images.
CLOUD = os.environ.get("LABCTL_TEST_CLOUD", "")


def openstack() -> tuple[Driver, list[str]]:
    if not CLOUD:
        pytest.skip("no lab to be the cloud: LABCTL_TEST_CLOUD=LAB names one")
    return usable(OpenStack(f"lab:{CLOUD}")), [str(cloud.ensure((tiny.ensure(),)))]


def _know_the_cloud() -> None:
    """Give a new home the lab that is the cloud: what is left there is asked by its name."""
    there = paths.labs() / CLOUD
    there.parent.mkdir(parents=True, exist_ok=True)
    there.symlink_to(STORE.parent / "labs" / CLOUD)


MAKERS: dict[str, Callable[[], tuple[Driver, list[str]]]] = {
    "fake": lambda: (Fake(), []),
    "nspawn": nspawn,
    "libvirt": libvirt,
    "vagrant": vagrant,
    "openstack": openstack,
}


@dataclass
class Subject:
    """A driver and a lab whose machines it makes."""

    driver: Driver
    lab: Lab
    #: The lab that this one is a twin of, at rest: a machine's first start goes on from there and needs no boot.
    ready: Lab | None = None
    begun: set[str] = field(default_factory=set)

    def ask(self, command: str, node: str = NODE) -> str:
        """Run a command on a machine that must succeed."""
        with self.driver.connect(self.lab, node, 60) as session:
            result = session.run(command, timeout=30)
        assert result.status == 0, result
        return result.stdout

    def begin(self, node: str = NODE) -> None:
        if self.ready and node not in self.begun:
            shutil.copytree(self.ready.top / node, self.lab.top / node)
            shutil.copytree(self.ready.node_directory(node), self.lab.node_directory(node))
        self.begun.add(node)
        self.driver.create(self.lab, node)
        self.driver.start(self.lab, node)

    def stand_on(self, *below: str) -> None:
        """Bring the machines to rest, and on again with a new layer over these, or over all there are."""
        self.driver.rest(self.lab, 30)
        stack, number = below or self.lab.stack, self.lab.new_layer()
        self.lab.layer(number).mkdir()
        self.driver.branch(self.lab, stack, number)
        self.lab.meta["stack"] = [number, *stack]
        for node in self.lab.spec.nodes:
            self.begin(node)

    def leave(self) -> list[str]:
        """Remove the lab whole; returns what is left."""
        left = [item for node in self.lab.spec.nodes for item in self.driver.destroy(self.lab, node)]
        left += self.driver.destroy_network(self.lab)
        shutil.rmtree(self.lab.directory)
        return left

    def left(self) -> list[str]:
        """What carries the lab's mark, but for its own records."""
        return [r for r in remains(self.lab.name) if r != f"directory {self.lab.directory}"]


def _know_about_kvm() -> None:
    """Give a new home what is known about KVM: to find it out takes a kernel and, where it fails, twenty seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_HOME", str(STORE.parent))
        kvm.examine()
    found = STORE.parent / "kvm.json"
    if found.exists():
        paths.home().mkdir(exist_ok=True)
        shutil.copy(found, paths.home())


def _carried(spec: LabSpec, mtu: int) -> LabSpec:
    """A spec whose networks carry no larger packets than the driver's do."""
    if not mtu:
        return spec
    networks = {name: each.model_copy(update={"mtu": min(each.mtu, mtu)}) for name, each in spec.networks.items()}
    return spec.model_copy(update={"networks": networks})


@contextmanager
def subject_of(
    maker: str, topology: str, directory: Path, monkeypatch: pytest.MonkeyPatch, ready: Lab | None = None
) -> Iterator[Subject]:
    """A lab of this topology with its network, made by a driver; destroyed at the end, which must leave nothing.

    :param ready: the lab's twin at rest, made by :func:`at_rest` from the same topology.
    """
    driver, image = MAKERS[maker]()
    monkeypatch.setenv("LABCTL_HOME", str(directory / "home"))
    assert paths.home() == directory / "home"
    if maker in ("libvirt", "vagrant"):
        _know_about_kvm()
    if maker == "openstack":
        _know_the_cloud()
    path = write(directory, topology)
    name = f"contract-{maker}-{os.getpid()}"
    lab = Lab.create(_carried(specify(path, name=name), driver.mtu(name)), path)
    monkeypatch.setitem(drivers.LOADED, lab.spec.driver, driver)
    if ready:
        lab.meta["id"] = ready.id
        shutil.copytree(ready.directory / "keys", lab.directory / "keys")
    lab.ensure_keys()
    lab.meta["image"] = image
    lab.save()
    made = Subject(driver, lab, ready)
    try:
        driver.create_network(lab)
        yield made
    finally:
        left = [item for node in lab.spec.nodes for item in driver.destroy(lab, node)] + driver.destroy_network(lab)
    assert left == []
    assert made.left() == []


def at_rest(maker: str, topology: str, directory: Path) -> Lab:
    """A lab whose machines have booted and were put to rest with their memory; only its files are left."""
    with pytest.MonkeyPatch.context() as patch, subject_of(maker, topology, directory, patch) as made:
        for node in made.lab.spec.nodes:
            made.begin(node)
        made.driver.rest(made.lab, 30)
        kept = directory / "at-rest"
        shutil.copytree(made.lab.directory, kept)
    return Lab(kept, made.lab.spec, made.lab.meta)
