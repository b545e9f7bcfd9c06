"""Ports of the loopback that lead into a namespace, and the SOCKS port, with real sockets."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from labctl.errors import LabError
from labctl.host import relay
from labctl.host.relay import LOOPBACK, Target


class Here:
    """Stands in for threads in a namespace: connections begin in this one; ``controller`` is here."""

    def call(self, function: Callable[..., Any], place: tuple[str, int], seconds: float) -> Any:
        host, port = place
        if host == "nowhere":
            raise socket.gaierror(-2, "Name or service not known")
        return function((LOOPBACK if host == "controller" else host, port), seconds)


@contextmanager
def echo() -> Iterator[int]:
    """A service that sends back what it gets, in capitals, until its client is done."""

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                got = b""
                while block := client.recv(65536):
                    got += block
                client.sendall(got.upper())

    with closing(socket.create_server((LOOPBACK, 0))) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@contextmanager
def served(*targets: Target, unix: Path | None = None) -> Iterator[list[Any]]:
    """A relay to targets: its addresses."""
    made = [relay.listen_at(unix / str(n)) if unix else relay.listen(40000) for n, _ in enumerate(targets)]
    ready, over = threading.Event(), threading.Event()

    def watch() -> None:
        if over.is_set():
            raise LabError("over")

    def run() -> None:
        with pytest.raises(LabError, match="over"):
            asyncio.run(relay.serve(Here(), dict(zip(made, targets, strict=True)), ready.set, watch))  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    yield [one.getsockname() for one in made]
    over.set()
    thread.join(10)
    assert not thread.is_alive()


def said(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    client.shutdown(socket.SHUT_WR)
    got = b""
    while block := client.recv(65536):
        got += block
    return got


def test_a_port_leads_to_its_target_both_ways_whatever_the_size() -> None:
    text = b"labctl" * 500_000
    with echo() as port, served(Target("controller", port)) as (place,), socket.create_connection(place, 10) as client:
        assert said(client, text) == text.upper()


def test_a_socket_in_a_directory_does_too(tmp_path: Path) -> None:
    with (
        echo() as port,
        served(Target(LOOPBACK, port), unix=tmp_path) as (place,),
        closing(socket.socket(socket.AF_UNIX)) as client,
    ):
        client.connect(place)
        assert said(client, b"abc") == b"ABC"


def test_a_target_that_is_not_there_closes_the_connection() -> None:
    with closing(socket.create_server((LOOPBACK, 0))) as gone:
        port = gone.getsockname()[1]
    with served(Target(LOOPBACK, port), Target("nowhere", 1)) as places:
        for place in places:
            with socket.create_connection(place, 10) as client:
                assert client.recv(1) == b""


def test_many_connections_are_open_at_once() -> None:
    with echo() as port, served(Target(LOOPBACK, port)) as (place,):
        clients = [socket.create_connection(place, 10) for _ in range(30)]
        for number, client in reversed(list(enumerate(clients))):
            if number == 0:
                assert said(client, b"last") == b"LAST"
            client.close()


def exact(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        block = client.recv(count - len(got))
        assert block, got
        got += block
    return got


@pytest.mark.parametrize(
    "address", [b"\1\x7f\0\0\1", b"\3\x0acontroller", b"\3\x09127.0.0.1"], ids=["address", "name", "address as name"]
)
def test_socks_leads_to_names_and_addresses(address: bytes) -> None:
    with echo() as port, served(Target()) as (place,), socket.create_connection(place, 10) as client:
        client.sendall(relay.HELLO)
        assert exact(client, 2) == relay.GREETING
        client.sendall(b"\5\1\0" + address + port.to_bytes(2, "big"))
        assert exact(client, 10)[:2] == b"\5\0"
        assert said(client, b"abc") == b"ABC"


@pytest.mark.parametrize(
    ("greeting", "request_", "answer"),
    [
        (b"\4\1", b"", b"\5\xff"),
        (b"\5\1\2", b"", b"\5\xff"),
        (relay.HELLO, b"\5\2\0\1\x7f\0\0\1\0\1", b"\5\x07"),
        (relay.HELLO, b"\5\1\0\x09\0\0", b"\5\x08"),
        (relay.HELLO, b"\5\1\0\1\x7f\0\0\1\0\1", b"\5\x05"),
        (relay.HELLO, b"\5\1\0\3\x07nowhere\0\1", b"\5\x04"),
    ],
    ids=["version 4", "passwords", "BIND", "no kind", "refused", "no name"],
)
def test_socks_says_what_it_does_not_do(greeting: bytes, request_: bytes, answer: bytes) -> None:
    with served(Target()) as (place,), socket.create_connection(place, 10) as client:
        client.sendall(greeting + (bytes(3) if greeting == b"\4\1" else b""))
        if request_:
            assert exact(client, 2) == relay.GREETING
            client.sendall(request_)
        assert exact(client, 2) == answer
        while client.recv(64):  # the rest of the answer, and then the end
            pass


def test_a_client_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CONNECT", 0.3)
    with served(Target()) as (place,), socket.create_connection(place, 10) as client:
        began = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - began < 5


def test_a_client_of_requests_gets_through_socks() -> None:
    def serve(listening: socket.socket) -> None:
        client, _ = listening.accept()
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        client.close()

    with closing(socket.create_server((LOOPBACK, 0))) as web, served(Target()) as ((_, port),):
        threading.Thread(target=serve, args=(web,), daemon=True).start()
        url = f"http://controller:{web.getsockname()[1]}/"
        answer = requests.get(url, proxies={"http": f"socks5h://{LOOPBACK}:{port}"}, timeout=10)
    assert answer.text == "hi"


def test_another_port_is_taken_where_one_is_in_use() -> None:
    with closing(relay.listen(40100)) as one, closing(relay.listen(one.getsockname()[1])) as other:
        assert other.getsockname()[1] > one.getsockname()[1]
        with pytest.raises(LabError, match="no port from"):
            relay.listen(one.getsockname()[1], above=1)


def test_sockets_are_elsewhere_where_their_paths_would_be_too_long(tmp_path: Path) -> None:
    """A path of a socket has room for 107 bytes; a directory of temporary files may be deep."""
    for wanted, kept in ((Path("/tmp") / f"labctl-{os.getpid()}", True), (tmp_path / ("deep" * 30), False)):
        with relay.directory(wanted, ["socks", "dashboard"]) as place:
            relay.listen_at(place / "dashboard").close()
            assert (place == wanted) is kept
            assert place.stat().st_mode & 0o777 == 0o700
        assert place.exists() is kept
    shutil.rmtree(Path("/tmp") / f"labctl-{os.getpid()}")
