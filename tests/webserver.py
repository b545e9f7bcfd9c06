"""A web server on loopback that keeps files, and fails as it is told."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answers:
    """How it answers; counts are of answers to GET with a body."""

    ranges: bool = True
    etag: str | None = '"1"'
    #: bytes after which a body ends, and how often that happens
    cut_after: int | None = None
    cuts: int = 10**6
    #: added to every length that is said
    lie: int = 0
    says_length: bool = True
    #: seconds before each piece of a body, and the bytes of a piece
    pause: float = 0.0
    piece: int = 2**16
    #: statuses that are answered first, by method
    refusals: dict[str, list[int]] = field(default_factory=dict)
    #: user:password that is asked for
    password: str = ""
    #: paths that end so are denied
    denied: str = "/no"
    #: called before each answer to GET
    before: list[Callable[[], object]] = field(default_factory=list)


class Server(ThreadingHTTPServer):
    """Files by path, and what was asked for: method, path, range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.answers = Answers()
        self.asked: list[tuple[str, str, str]] = []
        self.sent = 0

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def url(self, path: str = "/lab.tar.zst") -> str:
        return f"http://{self.place}{path}"

    def starts(self) -> list[int]:
        """Where each GET of the archive began."""
        return [
            int(wanted.removeprefix("bytes=").partition("-")[0] or 0)
            for method, path, wanted in self.asked
            if method == "GET" and not path.endswith(".sig")
        ]

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self.server.asked.append(("PUT", self.path, ""))
        body = self._body()
        if not self._refused("PUT"):
            self.server.files[self.path] = body
            self._empty(201)

    def _body(self) -> bytes:
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _refused(self, method: str) -> bool:
        answers = self.server.answers
        wanted = f"Basic {base64.b64encode(answers.password.encode()).decode()}" if answers.password else None
        if wanted and self.headers.get("Authorization") != wanted:
            self._empty(401)
            return True
        if answers.refusals.get(method):
            self._empty(answers.refusals[method].pop(0))
            return True
        return False

    def _empty(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, method: str) -> None:
        server, answers, wanted = self.server, self.server.answers, self.headers.get("Range", "")
        server.asked.append((method, self.path, wanted))
        if self._refused(method):
            return
        if method == "GET":
            for call in answers.before:
                call()
        path = self.path.partition("?")[0]
        if path.endswith(answers.denied):
            self._empty(403)
            return
        if path not in server.files:
            self._empty(404)
            return
        if self.headers.get("If-Match", answers.etag) != answers.etag:
            self._empty(412)
            return
        content, partial = server.files[path], bool(wanted) and answers.ranges
        start, _, end = wanted.removeprefix("bytes=").partition("-") if partial else ("0", "", "")
        body = content[int(start) : int(end) + 1 if end else None]
        self.send_response(206 if partial else 200)
        if answers.etag:
            self.send_header("ETag", answers.etag)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(body) - 1}/{len(content)}")
        if answers.says_length:
            self.send_header("Content-Length", str(len(body) + (answers.lie if method == "HEAD" or not partial else 0)))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        if method == "GET":
            self._send(body)

    def _send(self, body: bytes) -> None:
        answers, limit = self.server.answers, len(body)
        if answers.cut_after is not None and answers.cuts and len(body) > answers.cut_after:
            answers.cuts -= 1
            limit = answers.cut_after
        for start in range(0, limit, answers.piece):
            time.sleep(answers.pause)
            data = body[start : min(limit, start + answers.piece)]
            self.wfile.write(data)
            self.wfile.flush()
            self.server.sent += len(data)
        if limit < len(body):
            self.connection.shutdown(2)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server for as long as a block runs."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
