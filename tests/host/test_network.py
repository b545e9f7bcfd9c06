"""A lab's network on this machine: equal addresses side by side, and nothing of them on the host."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, SMALL, specify, write

from labctl.errors import BrokenLabError, LabError
from labctl.host import namespace as entering
from labctl.host import network, process, uplink
from labctl.lab.down import down, remains
from labctl.topology.resolve import with_overlay
from labctl.topology.spec import LabSpec

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(process.missing("ip", "nft", "sysctl")), reason="needs ip, nft and sysctl"),
]

NEEDS_PING = pytest.mark.skipif(bool(process.missing("ping")), reason="ping is not installed")
A, B, NAT = (f"net{letter}-{os.getpid()}" for letter in "abn")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture(autouse=True)
def home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "home"))


def host() -> set[str]:
    """The host's interfaces, addresses and routes."""
    links = {f"link {x['ifname']}" for x in json.loads(process.output(["ip", "-j", "link"]))}
    routes = {f"route {line}" for line in process.output(["ip", "-4", "route", "show", "table", "all"]).splitlines()}
    return links | routes


def made(name: str, text: str, tmp_path: Path) -> LabSpec:
    spec = specify(write(tmp_path, text, f"{name}.yaml"), name=name)
    network.create(spec)
    for node in spec.nodes.values():
        network.attach_container(spec, node)
    return spec


def answers(address: str) -> bool:
    """The address answers the first node of lab A."""
    words = ["ip", "netns", "exec", network.node_namespace(A, "first"), "ping", "-c", "1", "-W", "2", address]
    return process.run(words, check=False).returncode == 0


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LabSpec, LabSpec]]:
    home = os.environ["LABCTL_HOME"]
    try:
        yield made(A, SMALL, tmp_path), made(B, SMALL, tmp_path)
    finally:
        monkeypatch.setenv("LABCTL_HOME", home)  # of another one they would be left alone
        assert network.delete(A) + network.delete(B) == []
        assert network.namespaces(A) + network.namespaces(B) == []


def hosts(name: str) -> Path:
    return network.ETC / network.lab_namespace(name) / "hosts"


def listen(address: str) -> socket.socket:
    return socket.create_server((address, 8774))


def test_two_labs_use_the_same_addresses_and_do_not_meet(labs: tuple[LabSpec, LabSpec]) -> None:
    with entering.Inside(network.lab_namespace(A), hosts(A)) as inside:
        server = inside.call(listen, "10.0.0.1")
    with server:
        connection = entering.connect(network.lab_namespace(A), "10.0.0.1", 8774, 5)
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            entering.connect(network.lab_namespace(B), "10.0.0.1", 8774, 5)


def test_nothing_of_a_lab_is_on_the_host(tmp_path: Path) -> None:
    before = host()
    try:
        made(A, SMALL, tmp_path)
        new = {item for item in host() - before if "10.0.0." in item or item.split()[1][:2] in ("br", "n0", "n1")}
        assert new == set()
        assert uplink.device(A) not in " ".join(host())
    finally:
        assert network.delete(A) == []


@NEEDS_PING
def test_a_node_reaches_its_gateway_and_its_neighbour(labs: tuple[LabSpec, LabSpec]) -> None:
    assert answers("10.0.0.1")
    assert answers("10.0.0.12")
    routes = process.output(["ip", "-n", network.node_namespace(A, "first"), "route"])
    assert "default via 10.0.0.1" in routes


def test_cards_have_the_documented_addresses(labs: tuple[LabSpec, LabSpec]) -> None:
    (card,) = labs[0].nodes["first"].interfaces
    namespace = network.node_namespace(A, "first")
    (link,) = json.loads(process.output(["ip", "-n", namespace, "-j", "address", "show", "dev", "eth0"]))
    assert link["address"] == card.mac
    assert [a["local"] for a in link["addr_info"] if a["family"] == "inet"] == ["10.0.0.11"]


def test_the_namespace_knows_the_nodes_names(labs: tuple[LabSpec, LabSpec]) -> None:
    with entering.Inside(network.lab_namespace(A), hosts(A)) as inside:
        assert inside.call(socket.gethostbyname, "first") == "10.0.0.11"
    with pytest.raises(socket.gaierror):
        socket.gethostbyname("first")


def test_a_closed_port_refuses_at_once_and_a_gone_lab_says_so(labs: tuple[LabSpec, LabSpec]) -> None:
    with pytest.raises(OSError):
        entering.connect(network.lab_namespace(A), "10.0.0.1", 1, 2)
    with pytest.raises(BrokenLabError, match="does not exist"):
        entering.connect("labctl.nosuchlab", "10.0.0.1", 22, 2)


def test_making_a_network_twice_changes_nothing(labs: tuple[LabSpec, LabSpec]) -> None:
    command = ["ip", "-n", network.lab_namespace(A), "-o", "address"]
    before = process.output(command)
    network.create(labs[0])
    for node in labs[0].nodes.values():
        network.attach_container(labs[0], node)
    assert process.output(command) == before


def test_delete_leaves_nothing_and_spares_the_other_lab(labs: tuple[LabSpec, LabSpec]) -> None:
    assert network.delete(A) == []
    assert network.delete(A) == []
    assert remains(A) == []
    assert not (network.ETC / network.lab_namespace(A)).exists()
    assert network.namespaces(B) == [network.lab_namespace(B), *(network.node_namespace(B, n) for n in labs[1].nodes)]


def test_an_uplink_is_there_when_asked_for_and_gone_with_the_lab(tmp_path: Path) -> None:
    device = uplink.device(NAT)
    forward = FORWARD.read_text()
    before = host()
    try:
        made(NAT, SMALL.replace("{cidr: 10.0.0.0/24}", "{cidr: 10.0.0.0/24, nat: true}"), tmp_path)
        assert f"link {device}" in host()
        inner = network.inside(NAT, ["nft", "list", "ruleset"])
        assert 'oifname "uplink"' in inner
        assert "10.0.0.0/24" in inner
        assert "masquerade" in inner
        outer = process.output(["nft", "list", "table", "inet", f"labctl_{device}"])
        assert f'iifname "{device}" masquerade' in outer
        assert "default via 169.254." in network.inside(NAT, ["ip", "route"])
        assert FORWARD.read_text() == "1\n"
    finally:
        assert network.delete(NAT) == []
        FORWARD.write_text(forward)
    assert not {item for item in host() - before if device in item or "169.254." in item}
    assert process.run(["nft", "list", "table", "inet", f"labctl_{device}"], check=False).returncode != 0


@NEEDS_PING
@pytest.mark.parametrize("missing", ["cards", "bridges"])
def test_a_network_that_a_killed_labctl_left_half_made_is_completed(missing: str, tmp_path: Path) -> None:
    spec = specify(write(tmp_path, SMALL), name=A)
    try:
        if missing == "cards":
            network.create(spec)
        namespace = network.lab_namespace(A) if missing == "bridges" else network.node_namespace(A, "first")
        process.run(["ip", "netns", "add", namespace])
        if missing == "cards":  # its cable is there, its addresses are not
            port = network.port(spec.nodes["first"].interfaces[0])
            words = ["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace]
            process.run(["ip", "-n", network.lab_namespace(A), *words])
        made(A, SMALL, tmp_path)
        assert answers("10.0.0.12")
    finally:
        assert network.delete(A) == []


@NEEDS_PING
def test_a_network_more_or_less_makes_it_anew(tmp_path: Path) -> None:
    """An upgrade gives a lab a network for tunnels, and its snapshot takes that back."""
    before = specify(write(tmp_path, SMALL), name=f"test-{os.getpid()}-more")
    after = with_overlay(before, before.nodes)

    def bridges() -> set[str]:
        words = ["ip", "-n", network.lab_namespace(before.name), "-br", "link", "show", "type", "bridge"]
        found = process.output(words)
        return {line.split()[0].partition("-")[2] for line in found.splitlines()}

    try:
        for spec, wanted in ((before, {"management"}), (after, {"management", "overlay"}), (before, {"management"})):
            network.create(spec)
            assert bridges() == wanted
            assert network._complete(spec)
    finally:
        assert network.delete(before.name) == []


def test_a_containers_cards_go_and_come_again_without_the_others(tmp_path: Path) -> None:
    spec = made(A, SMALL, tmp_path)
    node, namespace = spec.nodes["second"], network.node_namespace(A, "second")
    try:
        for _ in range(2):
            network.detach_container(spec, "second")
            assert not (network.NETNS / namespace).exists()
            assert network.port(node.interfaces[0]) not in process.output(
                ["ip", "-n", network.lab_namespace(A), "-br", "link"]
            )
        network.attach_container(spec, node)
        assert answers("10.0.0.12")
    finally:
        assert network.delete(A) == []


@pytest.mark.parametrize(("topology", "cut"), [("epoxy-2node", {"provider"}), ("zed-2node", set())])
def test_no_packet_that_is_yet_to_be_cut_enters_ovns_own_datapath(topology: str, cut: set[str]) -> None:
    """Bug: a floating IP took a kilobyte a second, as OVN refused whatever TCP had left to be cut."""
    spec = specify(ROOT / f"topologies/{topology}.yaml", name=A)
    try:
        network.create(spec)
        for node in spec.nodes.values():
            network.attach_container(spec, node)
        found = json.loads(process.output(["ip", "-n", network.lab_namespace(A), "-d", "-j", "link"]))
        most = {link["ifname"]: link["gso_max_segs"] for link in found}
        for node in spec.nodes.values():
            assert {card.network for card in node.interfaces if most[network.port(card)] == 1} == cut
    finally:
        assert network.delete(A) == []


def test_an_uplink_that_a_killed_labctl_left_half_made_is_completed(tmp_path: Path) -> None:
    text = SMALL.replace("{cidr: 10.0.0.0/24}", "{cidr: 10.0.0.0/24, nat: true}")
    spec = specify(write(tmp_path, SMALL), name=NAT)
    before = FORWARD.read_text()
    try:
        network.create(spec)
        device, namespace = uplink.device(NAT), network.lab_namespace(NAT)
        process.run(["ip", "link", "add", device, "type", "veth", "peer", "name", "uplink", "netns", namespace])
        made(NAT, text, tmp_path)
        assert "default via 169.254." in network.inside(NAT, ["ip", "route"])
    finally:
        assert network.delete(NAT) == []
        FORWARD.write_text(before)


# --- homes -----------------------------------------------------------------------------------------


def test_a_lab_of_another_home_is_neither_taken_over_nor_removed(
    labs: tuple[LabSpec, LabSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "home"
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "other"))
    before = hosts(A).read_text()

    with pytest.raises(LabError, match=f"a lab named {A} is already running from the labctl home {mine}"):
        network.create(labs[0])
    with pytest.raises(LabError, match=f"{A} is a lab of {mine}") as raised:
        down(A)
    assert raised.value.hint == f"LABCTL_HOME={mine} labctl down {A}"
    assert (network.delete(A), network.namespaces(A), remains(A), network.marked()) == ([], [], [], [])

    assert hosts(A).read_text() == before
    monkeypatch.setenv("LABCTL_HOME", str(mine))
    assert len(network.namespaces(A)) == 3
    assert {A, B} <= set(network.marked())


def test_of_two_homes_that_want_a_name_at_once_one_gets_it(
    labs: tuple[LabSpec, LabSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.delete(A)
    words = "import sys, pickle; from labctl.host import network; network.create(pickle.load(sys.stdin.buffer))"
    claim, other = network._claim, []

    def slow(spec: LabSpec) -> None:
        claim(spec)
        environment = {**os.environ, "LABCTL_HOME": str(tmp_path / "other")}
        one = subprocess.Popen(
            [sys.executable, "-c", words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        one.stdin.write(pickle.dumps(spec))
        one.stdin.close()
        other.append(one)
        time.sleep(3)

    monkeypatch.setattr(network, "_claim", slow)
    network.create(labs[0])
    said = other[0].stderr.read().decode()
    assert other[0].wait(60) == 1
    assert f"a lab named {A} is already running" in said
    assert A in network.marked()


def test_a_mark_without_a_network_keeps_nobody_out(
    labs: tuple[LabSpec, LabSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reboot, when somebody else uses the name."""
    for namespace in network.namespaces(A):
        process.run(["ip", "netns", "delete", namespace])
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "other"))
    network.create(labs[0])
    assert network.marked() == [A]
    assert network.delete(A) == []
