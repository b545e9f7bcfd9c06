"""Archives that come from a server which fails in every way that it can: whole and intact, or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from webserver import Server, serving

from labctl.artefacts import failure, fetch, place
from labctl.errors import LabError, NoSpaceError
from labctl.host import archive, paths, signature
from labctl.progress import Event, subscribed

HEADER = {"name": "ready"}
BLOCK = 2**18


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(place, "BLOCK", BLOCK)
    monkeypatch.setattr("labctl.artefacts.files.BLOCK", BLOCK)
    with serving() as made:
        made.files["/lab.tar.zst"] = packed(made.place.encode())
        yield made


def packed(seed: bytes) -> bytes:
    """An archive of two MB that no compression makes smaller, another one for each seed."""
    import random
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "content").mkdir()
        (Path(name) / "content/random").write_bytes(random.Random(seed).randbytes(2 * 10**6))
        archive.write(Path(name) / "a.tar.zst", HEADER, [(Path(name), "content")], lambda _: None, 60)
        return (Path(name) / "a.tar.zst").read_bytes()


@pytest.fixture
def notes() -> Iterator[list[str]]:
    said: list[str] = []

    def keep(event: Event) -> None:
        said.append(event.text)

    with subscribed(keep):
        yield said


def brought(url: str, needed: int = 0) -> bytes:
    with fetch.arriving(url) as arrival:
        assert archive.read_header(arrival.head()) == HEADER
        return arrival.whole(needed).read_bytes()


def parts() -> list[Path]:
    return sorted(paths.archives().glob("*")) if paths.archives().is_dir() else []


def test_a_file_comes_whole_and_leaves_nothing(server: Server) -> None:
    assert brought(server.url()) == server.files["/lab.tar.zst"]
    assert parts() == []


def test_no_byte_is_asked_for_twice(server: Server) -> None:
    brought(server.url())
    assert server.sent == len(server.files["/lab.tar.zst"])


def test_a_connection_that_is_cut_goes_on_where_it_was(server: Server) -> None:
    server.answers.cut_after, server.answers.cuts = 10_000, 3
    assert brought(server.url()) == server.files["/lab.tar.zst"]


def test_a_command_that_was_interrupted_goes_on_when_it_is_repeated(server: Server, notes: list[str]) -> None:
    server.answers.before.append(lambda: _interrupt_after(server, 4))
    with pytest.raises(KeyboardInterrupt):
        brought(server.url())
    (part,) = parts()
    have = part.stat().st_size
    assert BLOCK <= have < len(server.files["/lab.tar.zst"])
    server.answers.before, server.asked = [], []
    assert brought(server.url()) == server.files["/lab.tar.zst"]
    assert min(server.starts()) == have
    assert parts() == []


def _interrupt_after(server: Server, gets: int) -> None:
    if len(server.starts()) == gets:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)


KILLED = """
import sys
from labctl.artefacts import fetch, files, place
place.BLOCK = files.BLOCK = 2**16
with fetch.arriving(sys.argv[1]) as arrival:
    arrival.head()
    arrival.whole()
"""


def test_a_killed_command_goes_on_when_it_is_repeated(server: Server) -> None:
    server.answers.pause = 0.05
    with subprocess.Popen([sys.executable, "-c", KILLED, server.url()]) as process:
        until = time.monotonic() + 60
        while not (found := [p for p in parts() if p.suffix == ".part" and p.stat().st_size > 2**17]):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.kill()
    have = found[0].stat().st_size
    server.answers.pause, server.asked = 0, []
    assert brought(server.url()) == server.files["/lab.tar.zst"]
    assert min(server.starts()) >= have
    assert parts() == []


def test_a_file_that_changed_between_two_commands_begins_again(server: Server, notes: list[str]) -> None:
    server.answers.before.append(lambda: _interrupt_after(server, 4))
    with pytest.raises(KeyboardInterrupt):
        brought(server.url())
    assert len(parts()) == 1
    server.files["/lab.tar.zst"], server.answers.etag, server.answers.before = packed(b"other"), '"2"', []
    assert brought(server.url()) == server.files["/lab.tar.zst"]
    assert any("has changed; " in said and "thrown away" in said for said in notes)


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"'])
def test_a_file_that_changes_in_between_is_never_put_together(etag: str, server: Server) -> None:
    server.answers.etag = etag

    def change() -> None:
        if len(server.starts()) == 5:
            server.files["/lab.tar.zst"], server.answers.etag = packed(b"other"), etag.replace("1", "2")

    server.answers.before.append(change)
    with pytest.raises(failure.ChangedError, match="was changed while it was downloaded"):
        brought(server.url())
    assert parts() == []


def test_a_file_that_changes_unseen_is_damaged(server: Server) -> None:
    server.answers.etag = None

    def change() -> None:
        if len(server.starts()) == 5:
            size = len(server.files["/lab.tar.zst"])
            server.files["/lab.tar.zst"] = packed(b"other").ljust(size, b"\0")[:size]

    server.answers.before.append(change)
    with pytest.raises(archive.NoArchiveError):
        brought(server.url())
    assert parts() == []


def test_wrong_bytes_are_named_and_thrown_away(server: Server) -> None:
    content = bytearray(server.files["/lab.tar.zst"])
    content[-5000] ^= 1
    server.files["/lab.tar.zst"] = bytes(content)
    with pytest.raises(archive.NoArchiveError, match="is damaged: checksum mismatch; the download was thrown away"):
        brought(server.url())
    assert parts() == []


def test_what_is_no_archive_is_refused_before_it_is_downloaded(server: Server) -> None:
    server.files["/lab.tar.zst"] = b"<html>" * 10**6
    with pytest.raises(archive.NoArchiveError, match="was not written by labctl snapshot export"):
        brought(server.url())
    assert server.sent <= BLOCK
    assert parts() == []


def test_a_server_that_promises_more_than_it_has(server: Server) -> None:
    server.answers.lie = 5000
    with pytest.raises(failure.BrokenOffError, match=r"(ended after .* of|connection failed|answers 416)"):
        brought(server.url())


def test_a_server_that_promises_less_than_it_has(server: Server) -> None:
    server.answers.lie = -5000
    with pytest.raises(archive.NoArchiveError, match="is truncated"):
        brought(server.url())
    assert parts() == []


def test_a_server_that_says_no_length(server: Server) -> None:
    server.answers.says_length = server.answers.ranges = False
    assert brought(server.url()) == server.files["/lab.tar.zst"]


def test_a_server_without_ranges_sends_the_whole(server: Server) -> None:
    server.answers.ranges = False
    assert brought(server.url()) == server.files["/lab.tar.zst"]


def test_a_server_without_ranges_begins_again_and_says_so(server: Server, notes: list[str]) -> None:
    server.answers.ranges, server.answers.cut_after, server.answers.cuts = False, 10**6, 2
    assert brought(server.url()) == server.files["/lab.tar.zst"]
    assert any("sends only whole files; the download begins again" in said for said in notes)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "there is no http://"),
        (403, r"access is denied \(403\)"),
        (500, "the server answers 500 Internal Server Error"),
        (503, "the server answers 503 Service Unavailable"),
    ],
)
def test_a_refusal_is_named(status: int, said: str, server: Server) -> None:
    server.answers.refusals = {"HEAD": [status] * 9, "GET": [status] * 9}
    with pytest.raises(failure.RemoteError, match=said):
        brought(server.url())
    assert parts() == []


def test_a_server_that_is_unavailable_for_a_moment_is_asked_again(server: Server) -> None:
    server.answers.refusals = {"HEAD": [503], "GET": [503, 503]}
    assert brought(server.url()) == server.files["/lab.tar.zst"]


def test_nobody_there(server: Server) -> None:
    with pytest.raises(failure.BrokenOffError, match=r"http://127.0.0.1:1/lab: the connection failed"):
        brought("http://127.0.0.1:1/lab")


def test_a_server_that_falls_silent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.artefacts.files.SILENCE", 0.2)
    server.answers.pause = 1.0
    began = time.monotonic()
    with pytest.raises(failure.BrokenOffError, match="no answer in time"):
        brought(server.url())
    assert time.monotonic() - began < 10


def test_a_server_that_drips(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.artefacts.files.SLOWEST", 0.5)
    server.answers.pause, server.answers.piece = 0.1, 10
    with pytest.raises(failure.BrokenOffError, match="no answer in time"):
        brought(server.url())


def test_a_download_ends_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "DEADLINE", 1.0)
    server.answers.pause = 0.15
    with pytest.raises(LabError, match=r"timed out after 1 s: .* are here"):
        brought(server.url())
    assert len(parts()) == 1


def test_what_does_not_fit_is_refused_with_sizes_before_it_comes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=fetch.RESERVE + 10**6))
    said = r"has .* free; .* of http://.* are still to come, and .* unpacked"
    with pytest.raises(NoSpaceError, match=said):
        brought(server.url(), 10**9)
    assert server.sent <= BLOCK
    assert parts() == []


def test_two_at_once_do_not_write_one_file(server: Server, notes: list[str]) -> None:
    server.answers.pause = 0.02
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(brought(server.url()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [server.files["/lab.tar.zst"]] * 2
    assert any(f"already downloads {server.url()}; waiting" in said for said in notes)


def test_no_password_is_told(server: Server, notes: list[str]) -> None:
    server.answers.password = "me:geheim"
    url = f"http://me:geheim@{server.place}/lab.tar.zst?token=geheim"
    assert brought(url) == server.files["/lab.tar.zst"]
    server.answers.refusals = {"HEAD": [500] * 99, "GET": [500] * 99}
    with pytest.raises(failure.RemoteError) as raised:
        brought(url)
    assert f"http://***@{server.place}/lab.tar.zst?***" in raised.value.message
    assert "geheim" not in f"{notes} {raised.value.message} {raised.value.hint} {parts()}"
    with pytest.raises(failure.DeniedError) as denied:
        brought(f"http://me:wrong@{server.place}/lab.tar.zst")
    assert "~/.netrc" in denied.value.hint
    assert "wrong" not in denied.value.message


def test_the_signature_beside_it_comes_too(server: Server) -> None:
    server.files["/lab.tar.zst.sig"] = b"signed"
    with fetch.arriving(server.url()) as arrival:
        arrival.head()
        assert signature.of(arrival.whole()).read_bytes() == b"signed"
    assert parts() == []


def test_a_server_that_denies_what_it_does_not_have_has_no_signature(server: Server) -> None:
    server.answers.denied = ".sig"
    with fetch.arriving(server.url()) as arrival:
        arrival.head()
        assert not signature.of(arrival.whole()).exists()


def test_a_header_longer_than_a_block(server: Server) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "content").mkdir()
        path = Path(name) / "a.tar.zst"
        archive.write(path, {"name": "x" * 10**6}, [(Path(name), "content")], lambda _: None, 60)
        server.files["/lab.tar.zst"] = path.read_bytes()
    with fetch.arriving(server.url()) as arrival:
        assert len(archive.read_header(arrival.head())["name"]) == 10**6
        assert arrival.whole().read_bytes() == server.files["/lab.tar.zst"]
