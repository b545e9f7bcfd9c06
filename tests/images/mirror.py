"""A small Debian archive on loopback, with packages made on the spot, that fails as it is told to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from labctl.host import process

#: What the handler does with a file instead of sending it.
Fault = Callable[["Handler", bytes], None]


def cut(handler: Handler, content: bytes) -> None:
    """The connection ends in the middle of the file."""
    handler.begin(len(content))
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def truncated(handler: Handler, content: bytes) -> None:
    """Half of the file, as if that were all."""
    handler.begin(len(content) // 2)
    handler.wfile.write(content[: len(content) // 2])


def silent(handler: Handler, content: bytes) -> None:
    """Nothing at all, for as long as anybody waits."""
    handler.server.over.wait(60)
    handler.close_connection = True


def answers(status: int) -> Fault:
    """This HTTP status."""
    return lambda handler, content: handler.send_error(status)


class Server(ThreadingHTTPServer):
    """Serves a mirror's directory."""

    daemon_threads = True

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mirror = mirror
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        """Send a file, go on with one, or fail as told."""
        mirror, name = self.server.mirror, self.path.rpartition("/")[2]
        with mirror.lock:
            mirror.asked.append(name)
            todo = mirror.faults.get(name, [])
            fault = todo.pop(0) if todo else None
        path = mirror.directory / name
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        if fault is not None:
            fault(self, content)
            return
        begin = 0
        if (wanted := self.headers.get("Range")) and wanted.endswith("-"):
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            with mirror.lock:
                mirror.resumed.append(name)
        self.begin(len(content) - begin, begin, len(content))
        self.wfile.write(content[begin:])

    def begin(self, size: int, start: int = 0, total: int = 0) -> None:
        """Send the head of an answer."""
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass
class Mirror:
    """The archive: its files, what was asked for, and what goes wrong next with each file."""

    directory: Path
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def add(self, name: str, *, version: str = "1", size: int = 200_000, postinst: str = "", depends: str = "") -> str:
        """Put a package into the archive, and write its index anew; returns the file's name."""
        tree = self.directory / f".{name}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: labctl <a@b.c>\nDescription: x\n"
        )
        (tree / "DEBIAN/control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
        if postinst:
            (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{postinst}\n")
            (tree / "DEBIAN/postinst").chmod(0o755)
        data = tree / f"usr/share/{name}/data"
        data.parent.mkdir(parents=True)
        pattern = hashlib.sha256(name.encode()).digest()
        data.write_bytes(pattern * (size // len(pattern)))
        file = f"{name}_{version}_all.deb"
        process.run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, self.directory / file])
        self.index()
        return file

    def index(self) -> None:
        """Write Packages and Release."""
        entries = []
        for path in sorted(self.directory.glob("*.deb")):
            content = path.read_bytes()
            control = process.output(["dpkg-deb", "-f", path])
            digest = hashlib.sha256(content).hexdigest()
            entries.append(f"{control}\nFilename: ./{path.name}\nSize: {len(content)}\nSHA256: {digest}\n")
        packages = "\n".join(entries).encode()
        (self.directory / "Packages").write_bytes(packages)
        digest = hashlib.sha256(packages).hexdigest()
        (self.directory / "Release").write_text(f"Suite: test\nSHA256:\n {digest} {len(packages)} Packages\n")

    @property
    def source(self) -> str:
        """Its line in apt's sources."""
        return f"deb [trusted=yes] {self.url} ./\n"


@contextmanager
def serving(directory: Path) -> Iterator[Mirror]:
    """A mirror that is served while the block runs."""
    directory.mkdir()
    mirror = Mirror(directory)
    mirror.index()
    server = Server(mirror)
    mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
