"""The way from the lab's namespace into its networks on a cloud: a layer-2 tunnel of OpenSSH for each network.

The gateway joins its end of a tunnel with its card in the network, this host with the network's bridge. So addresses,
names, floating IPs of the lab's own cloud, and everything that runs in the namespace are as with every other driver.
A process of ssh holds a tunnel; the kernel removes the tunnel's ends with it.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from labctl.drivers.openstack.cloud import Cloud
from labctl.drivers.openstack.networks import GATEWAY, OUTSIDE_ADDRESS, OUTSIDE_CIDR, OUTSIDE_ROUTER, Outside
from labctl.errors import BrokenLabError, DeadlineError
from labctl.host import cgroup, files, network, process
from labctl.host.ssh import new_key, save_private
from labctl.images import gateway
from labctl.progress import step
from labctl.records.lab import Lab

#: Its control group: no node's name has an underscore.
GROUP = "_tunnel"
#: Seconds for a gateway to boot and answer.
ANSWER = 120.0


def ensure_key(lab: Lab) -> None:
    """Create the gateway's host key, which is pinned before it boots."""
    keys = lab.directory / "keys"
    if not (keys / f"{GATEWAY}.pub").exists():
        pair = new_key("root@gateway")
        save_private(keys / GATEWAY, pair.private)
        files.write_atomic(keys / f"{GATEWAY}.pub", pair.public + "\n")


def gateway_files(lab: Lab, outside: Outside) -> dict[str, tuple[bytes, int]]:
    """What makes the gateway's server this lab's: path -> content and mode."""
    cards = (
        "link set lo up",
        f"link set eth0 mtu {outside.mtu} up",
        f"address add {OUTSIDE_ADDRESS}/{OUTSIDE_CIDR.partition('/')[2]} dev eth0",
        f"route add default via {OUTSIDE_ROUTER}",
    )
    return {
        "etc/hostname": (b"gateway\n", 0o644),
        gateway.CARDS: ("".join(f"{line}\n" for line in cards).encode(), 0o644),
        gateway.HOST_KEY: (lab.host_private_key(GATEWAY).encode(), 0o600),
        gateway.KEYS: (lab.public_key().encode(), 0o600),
    }


def end(index: int) -> str:
    """This host's end of the tunnel for the network of that number."""
    return f"tunnel{index}"


def ends(lab: Lab) -> set[str]:
    """The tunnels that are there."""
    words = ["ip", "-n", lab.namespace, "-br", "link", "show"]
    lines = process.run(words, check=False).stdout.splitlines()
    return {line.split()[0] for line in lines if line.startswith("tunnel")}


def broken(lab: Lab) -> str:
    """What is missing of the tunnels; empty if all are there."""
    there = ends(lab)
    lost = [network.name for index, network in enumerate(lab.spec.segments) if end(index) not in there]
    return f"the tunnel into {', '.join(lost)} is gone" if lost else ""


def ensure(lab: Lab, cloud: Cloud, address: str) -> None:
    """Open the tunnels that are missing; idempotent.

    :param address: the gateway's floating IP.
    :raises DeadlineError: the gateway does not answer.
    """
    missing = [index for index, _ in enumerate(lab.spec.segments) if end(index) not in ends(lab)]
    if not missing:
        return
    with step("cloud", f"tunnels into {len(missing)} networks through {address}"):
        close(lab.name)
        known = f"{address} {' '.join(lab.host_key(GATEWAY).split()[:2])}\n"
        files.make_directories(_directory(lab), 0o700)
        files.write_atomic(_directory(lab) / "known_hosts", known, 0o600)
        deadline = time.monotonic() + ANSWER * cloud.patience
        for index in range(len(lab.spec.segments)):
            _open(lab, cloud, address, index, deadline)


def _directory(lab: Lab) -> Path:
    return lab.directory / "gateway"


def _open(lab: Lab, cloud: Cloud, address: str, index: int, deadline: float) -> None:
    segment = lab.spec.segments[index]
    plug = (
        f"ip link set %T netns {lab.namespace} name {end(index)} && ip -n {lab.namespace} link set {end(index)} "
        f"mtu {segment.mtu} master {network.bridge(lab.spec, segment.name)} up"
    )
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "ExitOnForwardFailure": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "LocalCommand": plug,
        "PermitLocalCommand": "yes",
        "ServerAliveCountMax": "3",
        "ServerAliveInterval": "10",
        "StrictHostKeyChecking": "yes",
        "Tunnel": "ethernet",
        "UserKnownHostsFile": str(_directory(lab) / "known_hosts"),
    }
    ssh = ["ssh", "-F", "none", "-i", str(lab.directory / "keys/id_ed25519")]
    ssh += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    # after the option Tunnel: -w alone means a tunnel of layer 3
    ssh += ["-w", "any:any", f"root@{address}", shlex.join(["labctl-join", f"eth{index + 1}", str(segment.mtu)])]
    command = [*cgroup.joining(lab.name, GROUP), *cloud.run(*ssh)]
    path = _directory(lab) / f"{segment.name}.log"
    while True:
        begun = path.stat().st_size if path.exists() else 0
        with files.appended(path) as log:
            child = process.start(command, log=log, outlives=True)
        while child.poll() is None and time.monotonic() < deadline:
            if b"joined" in path.read_bytes()[begun:] and end(index) in ends(lab):
                return
            time.sleep(0.2)
        if child.poll() is None:
            child.kill()
            child.wait()
        said = path.read_text(errors="replace").splitlines()[-3:]
        if any("host key verification failed" in line.lower() for line in said):
            raise BrokenLabError(
                f"{address}: host key mismatch: it is not the gateway that labctl made", f"labctl repair {lab.name}"
            )
        if time.monotonic() >= deadline:
            raise DeadlineError(
                f"the gateway of {lab.name} does not answer on {address}: {'; '.join(said) or 'no reason given'}",
                cloud.command(f"console log show {lab.name}.gateway"),
            )
        time.sleep(1)


def close(name: str) -> list[str]:
    """End the tunnels of a lab; returns what could not be ended."""
    return [f"process {pid} of a tunnel" for pid in cgroup.kill(name, GROUP)]
