"""Links of nodes: a cut one carries nothing, a shaped one loses and limits as told, a healed one is as it was."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import SMALL, specify, write

from labctl.errors import LabError
from labctl.host import links, namespace, network, process
from labctl.host.links import Shape
from labctl.topology.spec import LabSpec

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(process.missing("ip", "nft", "tc", "ping")), reason="needs ip, nft, tc and ping"),
]

NAME = f"links-{os.getpid()}"
CARD = ("first", "management")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabSpec]:
    monkeypatch.setenv("LABCTL_HOME", str(tmp_path / "home"))
    spec = specify(write(tmp_path, SMALL), name=NAME)
    network.create(spec)
    for node in spec.nodes.values():
        network.attach_container(spec, node)
    yield spec
    assert network.delete(NAME) == []


def ping(node: str, address: str, count: int = 1) -> tuple[int, list[float]]:
    """How many answers came, and the round trips in milliseconds."""
    words = ["ip", "netns", "exec", network.node_namespace(NAME, node), "ping", "-c", str(count), "-i", "0.02"]
    said = process.run([*words, "-W", "1", address], check=False).stdout
    times = [float(t) for t in re.findall(r"time=([\d.]+) ms", said)]
    return len(times), times


def state(lab: LabSpec) -> str:
    """Queues and packet filters at the node's cable."""
    port = network.port(links.card(lab, *CARD))
    space = network.lab_namespace(NAME)
    queues = process.output(["tc", "-n", space, "qdisc", "show", "dev", port])
    return queues + network.inside(NAME, ["nft", "list", "ruleset"])


def test_a_cut_link_carries_nothing_until_it_is_plugged_in_again(lab: LabSpec) -> None:
    assert ping("first", "10.0.0.12")[0] == 1
    links.plug(lab, *CARD, up=False)
    assert not links.is_plugged(lab, *CARD)
    assert ping("first", "10.0.0.12")[0] == 0
    assert ping("second", "10.0.0.11")[0] == 0
    carrier = ["ip", "-n", network.node_namespace(NAME, "first"), "link", "show", "dev", "eth0"]
    assert "NO-CARRIER" in process.output(carrier)
    assert ping("second", "10.0.0.1")[0] == 1, "the other node's link was cut too"

    links.plug(lab, *CARD, up=True)
    assert links.is_plugged(lab, *CARD)
    deadline = time.monotonic() + 5
    while not ping("first", "10.0.0.12")[0] and time.monotonic() < deadline:
        pass
    assert ping("first", "10.0.0.12")[0] == 1


def test_a_lossy_link_loses_about_what_was_asked_for_and_a_whole_one_nothing(lab: LabSpec) -> None:
    before = state(lab)
    assert ping("first", "10.0.0.12", 50)[0] == 50
    links.shape(lab, *CARD, Shape(loss=30))
    # each of 200 round trips survives both ways with 0.7 * 0.7; six standard deviations either way
    answers, _ = ping("first", "10.0.0.12", 200)
    assert 55 <= answers <= 141, answers

    links.shape(lab, *CARD, Shape(loss=100))
    assert ping("first", "10.0.0.12", 5)[0] == 0
    links.shape(lab, *CARD, Shape())
    assert ping("first", "10.0.0.12", 50)[0] == 50
    assert state(lab) == before


def test_a_slow_link_takes_as_long_as_its_rate_says(lab: LabSpec) -> None:
    size = 150_000
    links.shape(lab, *CARD, Shape(rate=2000))

    def listen() -> socket.socket:
        return socket.create_server(("10.0.0.11", 9000))

    hosts = network.ETC / network.lab_namespace(NAME) / "hosts"
    with namespace.Inside(network.node_namespace(NAME, "first"), hosts) as inside:
        server = inside.call(listen)
    with server, namespace.connect(network.lab_namespace(NAME), "10.0.0.11", 9000, 5) as sender:
        receiver, _ = server.accept()
        receiver.settimeout(20)
        began = time.monotonic()
        sender.sendall(b"x" * size)
        sender.shutdown(socket.SHUT_WR)
        got = 0
        while data := receiver.recv(65536):
            got += len(data)
        took = time.monotonic() - began
        receiver.close()
    assert got == size
    assert took > 0.8 * size * 8 / 2_000_000, f"{size} bytes at 2 Mbit/s in {took:.2f} s"


def has_netem(lab: LabSpec) -> bool:
    words = ["tc", "-n", network.lab_namespace(NAME), "qdisc", "add", "dev", "lo", "root", "netem"]
    return process.run(words, check=False).returncode == 0


def test_a_late_link_adds_its_delay(lab: LabSpec) -> None:
    if not has_netem(lab):
        pytest.skip("this kernel has no netem")
    links.shape(lab, *CARD, Shape(delay=100))
    answers, times = ping("first", "10.0.0.12", 5)
    assert answers == 5
    assert all(100 <= t < 200 for t in times)


def test_a_delay_that_the_kernel_cannot_make_is_refused_with_what_it_lacks(lab: LabSpec) -> None:
    if has_netem(lab):
        pytest.skip("this kernel has netem")
    before = state(lab)
    with pytest.raises(
        LabError, match=r"--delay needs netem \(sch_netem\), which this host's kernel does not have"
    ) as refused:
        links.shape(lab, *CARD, Shape(delay=100, loss=1))
    assert "--loss works without it" in refused.value.hint
    assert state(lab) == before, "what was refused has left something"


def test_an_unknown_node_or_network_is_named_with_the_known_ones(lab: LabSpec) -> None:
    with pytest.raises(LabError, match="has no node 'third'; it has first, second"):
        links.plug(lab, "third", "management", up=False)
    with pytest.raises(LabError, match=r"first of .* is not in a network 'storage'; it is in management"):
        links.plug(lab, "first", "storage", up=False)


def test_a_shape_says_what_it_does() -> None:
    assert str(Shape(delay=100, loss=5, rate=512)) == "delay 100 ms, loss 5 %, rate 512 kbit/s"
    assert str(Shape()) == ""
