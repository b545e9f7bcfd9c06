"""A mirror without the installer's components is found out before a machine is started."""

from __future__ import annotations

import functools
import http.server
import io
import lzma
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from labctl.errors import LabError
from labctl.images import udebs

STANZA = "Package: {name}\nPriority: {priority}\nFilename: pool/{name}.udeb\n{more}Description: a part\n of it\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    #: requests that are still to be answered with 503
    busy = 0

    def log_message(self, *_: object) -> None:
        return

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        if Quiet.busy:
            Quiet.busy -= 1
            self.send_error(503)
            return None
        return super().send_head()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A mirror on loopback whose index has two components that are needed and two that are not."""
    stanzas = [
        STANZA.format(name="anna", priority="standard", more=""),
        STANZA.format(name="partman", priority="standard", more=""),
        STANZA.format(name="rescue", priority="optional", more=""),
        STANZA.format(name="ext4-modules", priority="standard", more="Kernel-Version: 6.1.0-1-amd64\n"),
    ]
    index = tmp_path / udebs.INDEX.format(suite="bookworm", architecture="amd64")
    index.parent.mkdir(parents=True)
    index.write_bytes(lzma.compress("\n".join(stanzas).encode()))
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/anna.udeb").write_bytes(b"!<arch>")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_missing_component_is_named(mirror: str) -> None:
    with pytest.raises(LabError, match=r"lacks 1 of 2 components.*pool/partman\.udeb \(404\)") as told:
        udebs.check(mirror, "bookworm")
    assert "--mirror" in (told.value.hint or "")


def test_a_mirror_that_has_them_all_is_taken(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "pool/partman.udeb").write_bytes(b"!<arch>")
    udebs.check(mirror, "bookworm")


def test_a_mirror_that_is_busy_for_a_moment_is_asked_again(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool/partman.udeb").write_bytes(b"!<arch>")
    monkeypatch.setattr(Quiet, "busy", 2)  # the index twice
    udebs.check(mirror, "bookworm")
    assert Quiet.busy == 0
    monkeypatch.setattr(Quiet, "busy", 100)
    with pytest.raises(LabError, match="503"):
        udebs.check(mirror, "bookworm")


def test_a_mirror_without_an_index_is_told(mirror: str) -> None:
    with pytest.raises(LabError, match="no index of the installer's components"):
        udebs.check(mirror, "sarge")
