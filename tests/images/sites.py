"""A site on loopback whose downloads break off where a test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 20_000  # 5 MB, so that it comes in pieces


class Site(ThreadingHTTPServer):
    """Serves one content under every path that ends so; knows ranges unless it is told not to."""

    def __init__(self, content: bytes = CONTENT, suffix: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.suffix = suffix
        self.ranges = True
        #: bytes after which the connection ends, and how often it does; always where that is not said
        self.break_after: int | None = None
        self.breaks: int | None = None
        #: statuses that are answered first
        self.refusals: list[int] = []
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def breaks_now(self) -> bool:
        if self.break_after is None or self.breaks == 0:
            return False
        self.breaks = None if self.breaks is None else self.breaks - 1
        return True


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, wanted = self.server, self.headers.get("Range")
        site.asked.append((self.path, wanted))
        if site.refusals:
            self.send_error(site.refusals.pop(0))
            return
        if not self.path.endswith(site.suffix):
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
        if start and start >= len(site.content):
            self.send_error(416)
            return
        body = site.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if site.breaks_now():
            self.wfile.write(body[: site.break_after])
            self.wfile.flush()
            self.connection.shutdown(2)
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(content: bytes = CONTENT, suffix: str = "") -> Iterator[Site]:
    """A site for as long as a block runs."""
    with Site(content, suffix) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
