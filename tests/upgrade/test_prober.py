"""Gaps are counted from the first question that was not answered to the next answer."""

from __future__ import annotations

import http.server
import socket
import threading

from labctl.upgrade.prober import Gaps, answers


def test_gaps_begin_with_the_first_miss_and_end_with_an_answer() -> None:
    gaps = Gaps()
    for answered, now in ((True, 1.0), (False, 2.0), (False, 3.0), (True, 7.5), (True, 8.0), (False, 9.0)):
        gaps.saw(answered, now)
    gaps.close(10.0)
    assert gaps.times == [5.5, 1.0]
    assert gaps.total == 6.5


def test_an_answer_below_500_counts_and_a_closed_port_does_not() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path == "/broken" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        assert answers(f"http://127.0.0.1:{port}/")
        assert not answers(f"http://127.0.0.1:{port}/broken")
        assert answers(f"tcp://127.0.0.1:{port}")
        server.shutdown()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{closed}/")
    assert not answers(f"tcp://127.0.0.1:{closed}")
