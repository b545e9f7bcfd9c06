"""How fast TCP is between guests: linuxbridge, Open vSwitch and OVN, the latter two with Open vSwitch's own datapath.

    sudo .venv/bin/python bench/network.py [--mib 64] [--rounds 3] [--only NAME]... [--keep]

One lab after another is brought up, each with a controller and two compute nodes in containers, and removed. In each,
three guests send bytes: to a guest of the same node, to one of the other node, and one receives them from outside
through its floating IP. Prints the medians, and their ratios to linuxbridge's of the same run; ends with 1 if one is
below a fifth. Without KVM the guests' own emulated processors are a part of what is measured, the same in every lab.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.host import namespace
from labctl.records import access, cloud
from labctl.testing import cleanup, guest, projects, resources, waits
from labctl.testing.guest import Guest
from labctl.testing.projects import Project

LEAST = 0.2  # of linuxbridge's speed
PORT = 5001
MIB = 2**20
PATHS = ("one node", "two nodes", "floating IP")
#: Takes one connection, throws away what comes, and writes down when it began and when it ended.
SINK = f"nc -l -p {PORT} -e sh -c 'cat /proc/uptime >taken; cat >/dev/null; cat /proc/uptime >>taken'"


@dataclass(frozen=True)
class Kind:
    """A lab to measure."""

    release: str
    base: str
    mechanism: str
    agents: str = ""


AGENTS = "neutron-dhcp, neutron-metadata"
KINDS = {
    "linuxbridge": Kind("zed", "debian12", "linuxbridge", AGENTS),
    "ovs-vlan": Kind("zed", "debian12", "openvswitch", AGENTS),  # Debian 12's cannot tunnel in containers
    "ovs-vxlan": Kind("gazpacho", "debian13", "openvswitch", AGENTS),
    "ovn-geneve": Kind("gazpacho", "debian13", "ovn"),
}


def topology(name: str) -> str:
    """The smallest lab in which guests of two nodes have networks."""
    kind = KINDS[name]
    central = "mariadb, rabbitmq, memcached, keystone, glance, placement, nova-controller, neutron-server"
    nodes = {"controller": ("4 GiB", 11, ", ".join(filter(None, (f"{central}, neutron-l2, neutron-l3", kind.agents))))}
    nodes |= {f"compute{n}": ("2 GiB", 30 + n, "nova-compute, neutron-l2") for n in (1, 2)}
    lines = [f"name: net-{name}", f"release: {kind.release}", f"bases: [{kind.base}]", "drivers: [nspawn]"]
    lines += ["networks:", "  management: {cidr: 10.0.0.0/24}", "  overlay: {cidr: 10.0.1.0/24}"]
    lines += ["  provider: {cidr: 203.0.113.0/24, gateway: 203.0.113.1, pool: 203.0.113.101-203.0.113.250}"]
    lines += [f"options: {{mechanism: {kind.mechanism}}}", "nodes:"]
    for node, (memory, last, runs) in nodes.items():
        networks = f"{{management: 10.0.0.{last}, overlay: 10.0.1.{last}, provider: none}}"
        lines += [f"  {node}:", f"    memory: {memory}", f"    networks: {networks}", f"    runs: [{runs}]"]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def project_of(lab: access.Access) -> Iterator[Project]:
    """A project whose user may choose the hosts of its servers; removed with everything in it."""
    admin = cloud.as_admin(lab)
    made = projects.create(lab, admin, "bench-network")
    try:
        keystone = cloud.identity(admin)
        role = next(role for role in keystone.roles() if role.name == "admin")
        keystone.assign_project_role_to_user(made.id, made.user_id, role)
        yield made
    finally:
        cleanup.destroy(admin, made)


def guests(lab: access.Access, project: Project) -> Iterator[tuple[Any, Guest]]:
    """Three servers, two of them on one node, each with a shell."""
    net = resources.make_network(project, "bench")
    group = resources.make_security_group(project, "bench")
    resources.allow(project, group, "tcp", PORT)
    key = guest.new_key("bench")
    connection = project.connection
    connection.compute.create_keypair(name=key.name, public_key=key.public)
    made = [
        resources.create_server(
            project, f"{host}-{n}", network=net.id, key_name=key.name, group=group.name,
            extra={"availability_zone": f"nova:{host}"},
        )
        for n, host in enumerate(("compute1", "compute1", "compute2"))
    ]  # fmt: skip
    for server in resources.wait_servers(connection, made):
        address = resources.floating_address(project, server)
        found = Guest(
            address, lab.guest_user, key,
            failed=lambda: None, console=lambda server=server: resources.console(connection, server),
        )  # fmt: skip
        yield server, found.connect()


def listening(receiver: Guest) -> None:
    """Let a guest take one connection."""
    port = f"netstat -ltn | grep -q :{PORT}"
    receiver.run(f"rm -f taken; ({SINK}) </dev/null >/dev/null 2>&1 & until {port}; do sleep 0.2; done")


def taken(receiver: Guest) -> float:
    """Seconds from the connection to its end, after the last byte."""
    words = receiver.output("until [ $(cat taken | wc -l) = 2 ]; do sleep 0.2; done; cat taken", timeout=600).split()
    return float(words[2]) - float(words[0])


def between(sender: Guest, receiver: Guest, address: str, mib: int) -> float:
    """Seconds from a guest to another one; nc itself would send a kilobyte at a time."""
    listening(receiver)
    sender.run(f"nc {address} {PORT} -e dd if=/dev/zero bs=64k count={mib * 16} 2>/dev/null", timeout=600)
    return taken(receiver)


def from_outside(receiver: Guest, mib: int) -> float:
    """Seconds from the lab's namespace to a guest's floating IP."""
    listening(receiver)
    chunk = bytes(MIB)
    with socket.create_connection((receiver.address, PORT), timeout=600) as connection:
        for _ in range(mib):
            connection.sendall(chunk)
    return taken(receiver)


def measure(name: str, mib: int, rounds: int) -> dict[str, list[float]]:
    """Mbit/s of each path of a lab that runs, round by round."""
    lab = access.load(name)
    namespace.enter(lab.namespace, lab.hosts_file)
    waits.be_patient(lab.patience)
    speeds: dict[str, list[float]] = {path: [] for path in PATHS}
    with project_of(lab) as project:
        (_, a), (second, b), (third, c) = guests(lab, project)
        addresses = [resources.fixed_address(project, server) for server in (second, third)]
        for _ in range(rounds):
            own = between(a, b, addresses[0], mib), between(a, c, addresses[1], mib), from_outside(a, mib)
            for path, seconds in zip(PATHS, own, strict=True):
                speeds[path].append(mib * MIB * 8 / seconds / 1e6)
    return speeds


def run(name: str, words: argparse.Namespace) -> dict[str, float]:
    """The medians of a lab, which is made for it."""
    lab, labctl = f"net-{name}", [sys.executable, "-m", "labctl"]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{name}.yaml"
        path.write_text(topology(name))
        try:
            subprocess.run([*labctl, "up", str(path)], check=True, stdout=sys.stderr)
            own = [sys.executable, __file__, "--measure", lab, "--mib", str(words.mib), "--rounds", str(words.rounds)]
            speeds = json.loads(subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True).stdout)
        finally:
            if not words.keep:
                subprocess.run([*labctl, "down", lab], check=True, stdout=sys.stderr)
    for path_name, found in speeds.items():
        print(f"{name}, {path_name}: {', '.join(f'{speed:.0f}' for speed in found)} Mbit/s", flush=True)
    return {path_name: statistics.median(found) for path_name, found in speeds.items()}


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=64, help="MiB of each transfer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=KINDS, help="measure only this one; may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the labs running")
    parser.add_argument("--measure", metavar="LAB", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        print(json.dumps(measure(words.measure, words.mib, words.rounds)))
        return 0
    found = {name: run(name, words) for name in words.only or KINDS}
    baseline = found.get("linuxbridge")
    slow = False
    for name, speeds in found.items():
        shown = []
        for path, speed in speeds.items():
            ratio = speed / baseline[path] if baseline else None
            slow |= ratio is not None and ratio < LEAST
            shown.append(f"{path} {speed:.0f} Mbit/s" + (f" ({ratio:.2f})" if ratio is not None else ""))
        print(f"{name}: {', '.join(shown)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
