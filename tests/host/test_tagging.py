"""Networks with VLAN tags on the bridges of a lab's namespace: with real frames, and the bytes of the programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import specify, write

from labctl.host import network, process, tagging
from labctl.topology.spec import LabSpec

NAME = f"tag-{os.getpid()}"
TEXT = """
name: tags
release: zed
bases: [debian12]
drivers: [libvirt]
options: {mechanism: openvswitch}
networks:
  management: {cidr: 10.0.0.0/24}
  wire: {cidr: 203.0.113.0/24, role: provider, mtu: 9000, ipv6: "2001:db8:0:1::/64"}
  tagged: {cidr: 198.51.100.0/24, role: provider, vlan: 105, mtu: 1500, ipv6: "2001:db8:0:2::/64"}
nodes:
  first:
    memory: 512 MiB
    networks: {management: 10.0.0.11, wire: none}
    runs: [mariadb, memcached]
fixtures: {internal_network: inner, internal_ipv6: "2001:db8:0:3::/64"}
"""
#: Asks who has an address, in a frame with a tag or without, and prints the tag of the answer, 0 for none.
ASK = """
import socket, struct, sys
card, address, tag = sys.argv[1], sys.argv[2], int(sys.argv[3])
door = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
door.bind((card, 0))
door.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA
mac = door.getsockname()[4]
tagged = struct.pack("!HH", 0x8100, tag) if tag else b""
asked = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, b"\\0" * 4, b"\\0" * 6, socket.inet_aton(address))
door.send(b"\\xff" * 6 + mac + tagged + struct.pack("!H", 0x806) + asked)
door.settimeout(2)
while True:
    frame, extra, _, _ = door.recvmsg(2000, 200)
    if frame[12:14] == b"\\x08\\x06" and frame[20:22] == b"\\0\\2" and frame[28:32] == socket.inet_aton(address):
        status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", extra[0][2][:20])
        print(tci & 0xFFF if status & 16 else 0)
        break
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabSpec]:
    home = str(tmp_path / "home")
    monkeypatch.setenv("LABCTL_HOME", home)
    spec = specify(write(tmp_path, TEXT), base="debian12", name=NAME)
    try:
        network.create(spec)
        network.attach_container(spec, spec.nodes["first"])
        yield spec
    finally:
        monkeypatch.setenv("LABCTL_HOME", home)
        assert network.delete(NAME) == []


def asked(address: str, tag: int) -> str:
    """The tag of the answer that a node gets; empty: none came."""
    words = ["ip", "netns", "exec", network.node_namespace(NAME, "first"), sys.executable, "-c", ASK, "eth1"]
    return process.run([*words, address, str(tag)], check=False).stdout.strip()


pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(process.missing("ip", "tc", "sysctl")), reason="needs ip, tc and sysctl"),
]


def test_the_gateway_of_a_tagged_network_answers_frames_with_its_tag_only(lab: LabSpec) -> None:
    assert asked("198.51.100.1", 105) == "105"
    assert asked("203.0.113.1", 0) == "0"


@pytest.mark.parametrize("tag", [0, 106])
def test_no_other_frame_reaches_the_gateway_of_a_tagged_network(lab: LabSpec, tag: int) -> None:
    # the kernel answers for any address of the namespace, on the device that the question came by: only the tag's
    # own device is looked at
    words = ["ip", "-n", network.lab_namespace(NAME), "-s", "-o", "link", "show", "dev", network.gateway(lab, "tagged")]

    def received() -> str:
        return process.output(words).split("RX:")[1].split("\\")[1].split()[1]

    before = received()
    asked("198.51.100.77", tag)
    assert received() == before
    asked("198.51.100.77", 105)
    assert received() != before


def test_bridges_cables_and_cards_have_the_network_s_mtu(lab: LabSpec) -> None:
    def mtu(namespace: str, device: str) -> str:
        return process.output(["ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/mtu"]).strip()

    (card,) = (card for card in lab.nodes["first"].interfaces if card.network == "wire")
    for device in (network.bridge(lab, "wire"), network.port(card)):
        assert mtu(network.lab_namespace(NAME), device) == "9000"
    assert mtu(network.lab_namespace(NAME), network.gateway(lab, "tagged")) == "1500"
    assert mtu(network.node_namespace(NAME, "first"), card.name) == "9000"
    assert mtu(network.node_namespace(NAME, "first"), "eth0") == "1500"


def test_the_namespace_routes_ipv6_to_the_guests_network(lab: LabSpec) -> None:
    routes = process.output(["ip", "-n", network.lab_namespace(NAME), "-6", "route"])
    assert "2001:db8:0:3::/64 via 2001:db8:0:1::2 dev br1-wire" in routes
    assert "2001:db8:0:2::/64 dev br1.105" in routes
    forwarding = network.inside(NAME, ["cat", "/proc/sys/net/ipv6/conf/all/forwarding"])
    assert forwarding.strip() == "1"


def test_programs_are_whole_instructions_that_name_their_tag() -> None:
    for program in (tagging.push(105), tagging.pop(105)):
        assert len(program) % 8 == 0
        assert (105).to_bytes(4, "little") in program
    assert tagging.pop(1) != tagging.pop(2)


def test_asking_for_the_kernel_s_devices_loads_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan asks, also of a lab without tags."""
    asked: list[list[str]] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(tagging.process, "missing", lambda *_: [])
    monkeypatch.setattr(tagging.process, "run", run)
    assert tagging.kernel_has_devices()
    assert all("--dry-run" in words for words in asked)
