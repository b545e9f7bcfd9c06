"""Exported snapshots at a URL: a lab goes there, comes back, and begins from there; or nothing is touched."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Labctl
from fsspec.registry import _registry
from support import IDENTITY, SMALL, specify, write
from webserver import Server, serving

from labctl.artefacts import fetch, place, send
from labctl.commands import snapshot as command
from labctl.drivers.fake import Fake
from labctl.errors import LabError, NoSpaceError, RefusedError
from labctl.host import archive, paths, process, signature
from labctl.lab import elsewhere, gc, snapshot
from labctl.lab import up as bring
from labctl.records.directory import exists
from labctl.records.lab import Lab


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    with serving() as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Lab:
    image = tmp_path / "labctl-home/images/base-0123456789abcdef"
    image.mkdir(parents=True)
    monkeypatch.setattr(fake, "image", lambda lab: ())
    path = write(tmp_path, SMALL)
    bring.up(specify(path), path, "verify")
    made = Lab.load("small")
    ask(made, fake, "echo precious >told")
    snapshot.create(made, "ready")
    ask(made, fake, "echo later >told")
    return made


def ask(lab: Lab, fake: Fake, words: str) -> str:
    with fake.connect(lab, "first", 1) as session:
        return session.run(words, timeout=10).stdout.strip()


@pytest.fixture
def url(lab: Lab, server: Server, fake: Fake) -> str:
    """Where the lab was sent, which is nowhere else any more."""
    command.export("small", "ready", server.url())
    for node in lab.spec.nodes:
        fake.destroy(lab, node)
    shutil.rmtree(paths.home())
    server.asked.clear()
    server.sent = 0
    return server.url()


def brought_after(url: str, part: bytes) -> None:
    """Download an archive of which a part is here already."""
    with fetch.arriving(url) as arrival:
        arrival.part.write_bytes(part)
        arrival.whole()


def waiting() -> list[str]:
    return sorted(path.name for path in paths.archives().glob("*"))


def test_a_lab_goes_to_a_url_and_comes_back(url: str, lab: Lab, fake: Fake) -> None:
    command.import_(url)
    found = Lab.load("small")
    assert (found.id, found.spec) == (lab.id, lab.spec)
    snapshot.restore(found, "ready")
    assert ask(found, fake, "cat told") == "precious"
    assert waiting() == []


def test_a_file_url_is_a_file(lab: Lab, fake: Fake, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/a%20lab.tar.zst"
    command.export("small", "ready", url)
    assert (tmp_path / "a lab.tar.zst").exists()
    with elsewhere.opened(url) as export:
        assert export.header.name == "ready"


def test_a_lab_that_is_here_is_refused_before_it_is_downloaded(lab: Lab, server: Server) -> None:
    command.export("small", "ready", server.url())
    server.files["/lab.tar.zst"] += bytes(10 * place.BLOCK)
    with pytest.raises(LabError, match="a lab named small already exists"):
        command.import_(server.url())
    assert server.sent <= place.BLOCK
    assert waiting() == []


def test_an_export_of_a_newer_labctl_is_refused_before_it_is_downloaded(
    url: str, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "was").write_bytes(server.files["/lab.tar.zst"])
    header = {**archive.read_header(tmp_path / "was"), "format": "labctl snapshot 2", "labctl": "9.9"}
    archive.write(tmp_path / "newer", header, [(tmp_path, "was")], lambda _: None, 60)
    server.files["/lab.tar.zst"] = (tmp_path / "newer").read_bytes() + bytes(10 * place.BLOCK)
    with pytest.raises(LabError, match=r"^http://.* was exported by labctl 9.9, which this one .* cannot read: format"):
        command.import_(url)
    assert server.sent <= place.BLOCK
    assert waiting() == []


def test_an_export_that_does_not_fit_is_refused_before_it_is_downloaded(
    url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/lab.tar.zst"] += bytes(10 * place.BLOCK)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=fetch.RESERVE))
    with pytest.raises(NoSpaceError, match=r"archives has 256 MiB free; .* of http://.* are still to come"):
        command.import_(url)
    assert server.sent <= place.BLOCK
    assert not exists("small")


def test_a_damaged_export_makes_no_lab(url: str, server: Server) -> None:
    content = bytearray(server.files["/lab.tar.zst"])
    content[-500] ^= 1
    server.files["/lab.tar.zst"] = bytes(content)
    with pytest.raises(archive.NoArchiveError, match="checksum mismatch"):
        command.import_(url)
    assert not exists("small")
    assert list(paths.labs().iterdir()) == []
    assert waiting() == []


def test_what_has_arrived_stays_where_the_lab_could_not_be_made(
    url: str, server: Server, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lab: Lab, needs: object) -> None:
        raise LabError("the memory needs QEMU 99")

    with monkeypatch.context() as patch:
        patch.setattr(fake, "adopt", refuse)
        with pytest.raises(LabError, match="QEMU 99"):
            command.import_(url)
    assert [f.kind for f in gc.find(images=True) if f.kind == "archive"] == ["archive"]
    server.sent = 0
    command.import_(url, boot=True)
    assert server.sent == 0
    assert exists("small")


KILLED = """
import os, signal, sys
from labctl import drivers
from labctl.commands import snapshot
from labctl.drivers.fake import Fake
from labctl.lab import portable
drivers.LOADED["nspawn"] = Fake()
portable._record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
snapshot.import_(sys.argv[1])
"""


def test_an_import_that_was_killed_while_it_unpacked_is_made_anew_of_what_had_arrived(
    url: str, lab: Lab, fake: Fake, server: Server
) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, url], check=False).returncode == -signal.SIGKILL
    assert (paths.labs() / "small/layers").is_dir()
    assert not exists("small")
    server.sent = 0
    command.import_(url)
    assert server.sent == 0
    assert Lab.load("small").id == lab.id
    assert waiting() == []


def test_gc_removes_what_has_arrived_and_was_not_used(url: str, server: Server) -> None:
    server.answers.refusals = {"GET": [500] * 9}
    with pytest.raises(LabError, match="answers 500"):
        brought_after(url, b"part")
    assert not [f for f in gc.find() if f.kind == "archive"]
    found = [f for f in gc.find(images=True) if f.kind == "archive"]
    assert gc.remove(found) == []
    assert waiting() == []


def test_two_imports_of_a_url_at_once_make_one_lab(url: str, lab: Lab, server: Server) -> None:
    server.answers.pause = 0.2
    said: list[str] = []

    def again() -> None:
        try:
            command.import_(url)
            said.append("imported")
        except LabError as error:
            said.append(error.message)

    threads = [threading.Thread(target=again) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(said) == ["a lab named small already exists", "imported"]
    assert Lab.load("small").id == lab.id
    assert waiting() == []


def test_the_signature_goes_and_comes_too(lab: Lab, fake: Fake, server: Server, tmp_path: Path) -> None:
    key = tmp_path / "key"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    command.export("small", "ready", server.url(), key=key)
    (tmp_path / "allowed").write_text(f"me@example.org {(tmp_path / 'key.pub').read_text()}")
    (tmp_path / "others").write_text("")
    for node in lab.spec.nodes:
        fake.destroy(lab, node)
    shutil.rmtree(paths.home())
    with pytest.raises(LabError, match=r"^http://.* is signed with .*, which is of nobody in"):
        command.import_(server.url(), signers=tmp_path / "others")
    command.import_(server.url(), signers=tmp_path / "allowed")
    assert exists("small")
    assert waiting() == []


# --- export ----------------------------------------------------------------------------------------


def test_an_export_that_was_not_sent_is_not_packed_again(
    lab: Lab, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers.refusals = {"PUT": [500]}
    with pytest.raises(LabError, match="the server answers 500"):
        command.export("small", "ready", server.url())
    (packed,) = waiting()
    content = (paths.archives() / packed).read_bytes()
    capsys.readouterr()
    command.export("small", "ready", server.url())
    assert server.files["/lab.tar.zst"] == content
    assert "of which nothing could be used: it began again" in " ".join(capsys.readouterr().err.split())
    assert waiting() == []


def test_an_export_to_who_denies_it(lab: Lab, server: Server) -> None:
    server.answers.refusals = {"PUT": [403]}
    with pytest.raises(LabError, match=r"access is denied \(403\)"):
        command.export("small", "ready", f"http://me:geheim@{server.place}/lab.tar.zst")


@pytest.mark.parametrize(
    ("library", "url"),
    [
        ("fsspec", "https://example.org/lab.tar.zst"),
        ("aiohttp", "https://example.org/lab.tar.zst"),
        ("s3fs", "s3://labs/lab.tar.zst"),
    ],
)
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    library: str, url: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("labctl.artefacts.files", "fsspec.implementations.http"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for registered in ("https", "s3"):
        monkeypatch.delitem(_registry, registered, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    scheme = url.partition(":")[0]
    with pytest.raises(LabError, match=f"{scheme}:// needs the Python package {library}, which is not inst") as raised:
        command.export("small", "ready", url)
    assert raised.value.hint == f"{sys.executable} -m pip install 'labctl[remote]'"
    assert waiting() == []


@pytest.mark.parametrize("url", ["gopher://a/b", "https://example.org", "s3://bucket/", "file://elsewhere/lab"])
def test_a_url_that_names_no_file_labctl_can_reach(url: str) -> None:
    with pytest.raises(LabError, match=r"does not know the scheme of|names no file"), elsewhere.opened(url):
        pass


# --- up --from -------------------------------------------------------------------------------------


def test_a_lab_begins_from_a_url(url: str, lab: Lab, fake: Fake, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    assert bring.up(specify(path), path, "verify", url).stages == []
    found = Lab.load("small")
    assert found.id == lab.id
    assert ask(found, fake, "cat told") == "precious"
    assert all(fake.machine(found, node).running for node in found.spec.nodes)
    ask(found, fake, "echo later >told")
    server.sent = 0

    bring.up(specify(path), path, "verify", url)

    assert ask(found, fake, "cat told") == "precious"
    assert server.sent <= place.BLOCK


def test_what_changed_in_the_topology_since_is_converged(url: str, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "options: {workers: 3}\n")
    bring.up(specify(path), path, "verify", url)
    assert Lab.load("small").spec.workers == 3


def test_a_lab_of_another_topology_is_refused_before_anything_is_downloaded(
    url: str, server: Server, tmp_path: Path
) -> None:
    server.files["/lab.tar.zst"] += bytes(10 * place.BLOCK)
    path = write(tmp_path, IDENTITY)
    with pytest.raises(RefusedError, match=r"^http://.* has topology small, not identity"):
        bring.up(specify(path, name="small"), path, "verify", url)
    path = write(tmp_path, SMALL)
    with pytest.raises(RefusedError, match=r"is of a lab named small, not other") as raised:
        bring.up(specify(path, name="other"), path, "verify", url)
    assert raised.value.hint == "the same command with --name small"
    assert server.sent <= 2 * place.BLOCK
    assert not exists("small")


def test_another_lab_of_that_name_is_never_touched(url: str, lab: Lab, fake: Fake, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    bring.up(specify(path), path, "verify")
    with pytest.raises(RefusedError, match="a lab named small already exists, and is not what http://"):
        bring.up(specify(path), path, "verify", url)
    assert Lab.load("small").id != lab.id


def test_a_snapshot_of_another_shape_is_refused_before_it_is_restored(lab: Lab, fake: Fake, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("10.0.0.12", "10.0.0.13"))
    with pytest.raises(RefusedError, match="differ from the snapshot ready"):
        bring.up(specify(path), path, "verify", "ready")
    path = write(tmp_path, IDENTITY)
    with pytest.raises(RefusedError, match="the snapshot ready has topology small, not identity"):
        bring.up(specify(path, name="small"), path, "verify", "ready")
    assert ask(Lab.load("small"), fake, "cat told") == "later"


def test_a_command_that_failed_before_its_lab_was_there_is_told_whole(
    url: str, server: Server, labctl: Labctl, tmp_path: Path
) -> None:
    server.answers.refusals = {"GET": [500] * 9}
    status, out, err = labctl(
        "up", str(tmp_path / "lab.yaml"), "--from", f"http://me:geheim@{server.place}/lab.tar.zst"
    )
    assert status == 1
    assert f"--from 'http://***@{server.place}/lab.tar.zst' continues" in " ".join(err.split())
    assert "geheim" not in err + out


def test_sending_tells_no_password(lab: Lab, server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    server.answers.password = "me:geheim"
    send.send(tmp_path / "file", f"http://me:geheim@{server.place}/there")
    assert server.files["/there"] == b"x"
    assert not signature.of(tmp_path / "file").exists()
