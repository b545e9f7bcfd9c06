"""How long machines take to answer SSH: labctl's libvirt driver against plain ``vagrant up``.

    python bench/vm_boot.py [--nodes 2] [--rounds 1] [--release zed] [--cpus]

Both from the same image of labctl's, under the same accelerator, one after the other on a quiet machine, both in a
namespace of their own. What is timed is what a user waits for: ``vagrant up`` from its start to its end, and the
driver's machines from their making to the first answer of the last one. Images and boxes are made before, networks
before and after. Prints the seconds of each round and the ratio.

With ``--cpus`` the processor models of emulated machines are compared instead, by the seconds to the first answer of
one machine; ``labctl.drivers.libvirt.machine.EMULATED_CPU`` is the fastest.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.commands.console import progress
from labctl.drivers.base import Driver
from labctl.drivers.libvirt import machine as libvirt
from labctl.drivers.libvirt.machine import Libvirt
from labctl.drivers.vagrant.command import environment
from labctl.drivers.vagrant.machine import VagrantMachines
from labctl.host import network
from labctl.host.threads import side_by_side
from labctl.lab import up
from labctl.lab.choose import choose
from labctl.records.lab import Lab, begin_removal, remove_directory

PATIENCE = 600  # seconds for a machine to answer
MODELS = (("qemu64", ()), ("qemu64", ("svm",)), ("qemu64", ("svm", "npt")), ("Nehalem", ()), ("maximum", ()))


def topology(nodes: int, release: str) -> str:
    """Machines that run nothing but their own system."""
    lines = [f"name: vm-boot\nrelease: {release}\nbases: [debian12]\ndrivers: [libvirt, vagrant]\nnetworks:"]
    lines += ["  management: {cidr: 10.0.0.0/24}", "nodes:"]
    for number in range(nodes):
        lines += [f"  node{number}:", "    memory: 1 GiB", f"    networks: {{management: 10.0.0.{11 + number}}}"]
        lines += [f"    runs: [{'etcd' if number else 'memcached'}]"]
    return "\n".join(lines) + "\n"


@contextmanager
def bare_lab(driver: Driver, path: Path) -> Iterator[Lab]:
    """A lab with its image and networks, whose machines are not made yet; removed at the end."""
    loaded, _ = up.read(str(path))
    lab = Lab.create(choose(loaded, name=f"vm-boot-{driver.name}", driver=driver.name).spec, path)
    try:
        lab.ensure_keys()
        lab.record_image(driver.image(lab))
        driver.create_network(lab)
        yield lab
    finally:
        for node in lab.spec.nodes:
            driver.destroy(lab, node)
        driver.destroy_network(lab)
        begin_removal(lab.name)
        remove_directory(lab.directory)


def by_driver(driver: Driver, lab: Lab) -> float:
    """Seconds until the last machine answers."""

    def boot(node: str) -> None:
        driver.create(lab, node)
        driver.start(lab, node)
        driver.connect(lab, node, PATIENCE).close()

    began = time.monotonic()
    for future in side_by_side(boot, lab.spec.nodes):
        future.result()
    return time.monotonic() - began


def by_vagrant(driver: VagrantMachines, lab: Lab) -> float:
    """Seconds of ``vagrant up`` for all machines; the driver only writes lab.json."""
    for node in lab.spec.nodes:
        driver.create(lab, node)
    words = ["nsenter", f"--net={network.NETNS / network.lab_namespace(lab.name)}", "vagrant", "up"]
    began = time.monotonic()
    subprocess.run(words, cwd=lab.directory / "vagrant", env=environment(), check=True, timeout=PATIENCE * 3)
    return time.monotonic() - began


def compare(path: Path, rounds: int) -> int:
    """Print what each takes and the ratio."""
    taken: dict[str, list[float]] = {"labctl": [], "vagrant": []}
    machines = VagrantMachines()
    runs: list[tuple[str, Driver, Callable[[Lab], float]]] = [
        ("labctl", own := Libvirt(), lambda lab: by_driver(own, lab)),
        ("vagrant", machines, lambda lab: by_vagrant(machines, lab)),
    ]
    for number in range(rounds):
        for name, driver, run in runs if number % 2 == 0 else reversed(runs):
            driver.probe()
            with bare_lab(driver, path) as lab, progress():
                taken[name].append(run(lab))
            print(f"round {number + 1}: {name} {taken[name][-1]:.1f} s", flush=True)
    labctl, vagrant = (statistics.median(taken[name]) for name in ("labctl", "vagrant"))
    print(f"labctl {labctl:.1f} s, vagrant up {vagrant:.1f} s: ratio {vagrant / labctl:.2f}")
    return 0 if labctl <= vagrant else 1


def models(path: Path) -> int:
    """Print how long one emulated machine takes with each processor model."""
    for cpu, features in MODELS:
        libvirt.EMULATED_CPU, libvirt.EMULATED_FEATURES = cpu, features
        driver = Libvirt()
        driver.probe()
        with bare_lab(driver, path) as lab:
            print(f"{' +'.join((cpu, *features))}: {by_driver(driver, lab):.1f} s", flush=True)
    return 0


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--release", default="zed")
    parser.add_argument("--cpus", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "vm-boot.yaml"
        path.write_text(topology(1 if wanted.cpus else wanted.nodes, wanted.release))
        return models(path) if wanted.cpus else compare(path, wanted.rounds)


if __name__ == "__main__":
    sys.exit(main())
