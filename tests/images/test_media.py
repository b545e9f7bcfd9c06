"""The catalogue of media: downloads that go on, checksums that are kept, files that are taken in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sites import CONTENT, Site, served
from support import ROOT
from typer.testing import CliRunner

from labctl import progress
from labctl.cli import app
from labctl.errors import LabError
from labctl.images import download, media
from labctl.images.media import CATALOGUE, Medium


@pytest.fixture
def site() -> Iterator[Site]:
    with served(suffix=".iso") as server:
        yield server


@pytest.fixture
def medium(site: Site, monkeypatch: pytest.MonkeyPatch) -> Medium:
    """A medium of the site's, alone in the catalogue."""
    found = replace(
        CATALOGUE[2], site=site.url, path="7.9.2009/isos/x86_64/A.iso", sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    monkeypatch.setattr(media, "CATALOGUE", (found,))
    return found


def test_the_catalogue_is_what_the_facts_say() -> None:
    """Every file of section 3 with its checksum, and nothing else."""
    text = (ROOT / "docs/facts/releases.md").read_text()
    section = text[text.index("## 3. Media and images") : text.index("## 4. Base services")]
    rows = re.findall(r"^\| ([^|]*\.(?:iso|qcow2c?)) \| ([0-9a-f]{64}) \|", section, re.MULTILINE)
    facts = {name.split()[-1].rpartition("/")[2]: digest for name, digest in rows}
    assert facts == {m.name: m.sha256 for m in CATALOGUE}
    for name, _ in rows:
        version, _, file = name.rpartition(" ")
        if version:
            assert media.get(file).url().endswith(f"/{version}/isos/x86_64/{file}")


def test_a_file_is_fetched_once_and_kept(site: Site, medium: Medium) -> None:
    assert media.fetch(medium).read_bytes() == CONTENT
    assert media.fetch(medium).read_bytes() == CONTENT
    assert site.asked == [("/7.9.2009/isos/x86_64/A.iso", None)]


def test_a_broken_download_goes_on_where_it_ended(site: Site, medium: Medium, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    site.break_after = 2_000_000
    with pytest.raises(LabError) as raised:
        media.fetch(medium)
    assert medium.url() in raised.value.message
    assert "the same command resumes it" in raised.value.hint
    (partial,) = media.leftovers()
    have = partial.stat().st_size
    assert 0 < have <= 2_000_000

    site.break_after = None
    notes: list[str] = []
    with progress.subscribed(lambda event: notes.append(event.text)):
        assert media.fetch(medium).read_bytes() == CONTENT
    assert site.asked[-1] == ("/7.9.2009/isos/x86_64/A.iso", f"bytes={have}-")
    assert any(note.startswith("resuming at") for note in notes)
    assert media.leftovers() == ()


def test_a_download_that_was_whole_is_only_checked(site: Site, medium: Medium) -> None:
    media.directory().mkdir(parents=True)
    (media.directory() / ".A.iso.part").write_bytes(CONTENT)
    assert media.fetch(medium).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_file_removed(site: Site, medium: Medium) -> None:
    site.content = CONTENT[:-1] + b"x"
    with pytest.raises(LabError, match=f"not {medium.sha256}; the file was removed"):
        media.fetch(medium)
    assert not media.present(medium)
    assert media.leftovers() == ()


def test_a_site_that_has_no_such_file_is_named_with_its_answer(site: Site, medium: Medium) -> None:
    absent = replace(medium, path="7.9.2009/isos/x86_64/A.img")
    with pytest.raises(LabError, match=rf"{site.url}/7\.9\.2009/isos/x86_64/A\.img: 404"):
        media.fetch(absent)


def test_a_mirror_takes_the_place_of_the_site(site: Site, medium: Medium, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = replace(medium, site="http://127.0.0.1:1")
    assert media.fetch(elsewhere, mirror=f"{site.url}/vault/").exists()
    assert site.asked == [("/vault/7.9.2009/isos/x86_64/A.iso", None)]
    monkeypatch.setenv(media.MIRROR_VARIABLE, site.url)
    assert elsewhere.url() == f"{site.url}/7.9.2009/isos/x86_64/A.iso"


def test_a_site_that_is_down_is_an_error_that_says_what_to_do(medium: Medium) -> None:
    with pytest.raises(LabError, match=r"http://127\.0\.0\.1:1/.* cannot be downloaded") as raised:
        media.fetch(medium, mirror="http://127.0.0.1:1")
    assert "labctl image add FILE" in raised.value.hint


def test_a_local_file_is_taken_by_its_checksum_whatever_its_name(medium: Medium, tmp_path: Path) -> None:
    file = tmp_path / "download(1).iso"
    file.write_bytes(CONTENT)
    assert media.add(file) == medium
    assert media.path_of(medium).read_bytes() == CONTENT
    file.write_bytes(b"changed later")
    assert media.path_of(medium).read_bytes() == CONTENT


def test_a_local_file_that_changes_while_it_is_added_is_refused(
    medium: Medium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, digest = tmp_path / "A.iso", media.digest
    file.write_bytes(CONTENT)

    def changed_then(path: Path) -> str:
        found = digest(path)
        file.write_bytes(b"something else")
        return found

    monkeypatch.setattr(media, "digest", changed_then)
    with pytest.raises(LabError, match="was changed while it was added"):
        media.add(file)
    assert list(media.directory().iterdir()) == []


def test_a_local_file_with_another_checksum_is_refused(medium: Medium, tmp_path: Path) -> None:
    file = tmp_path / "A.iso"
    file.write_bytes(b"no")
    with pytest.raises(LabError, match=rf"A\.iso has SHA-256 [0-9a-f]{{64}}, not {medium.sha256}"):
        media.add(file)
    other = tmp_path / "B.iso"
    other.write_bytes(b"no")
    with pytest.raises(LabError, match="which is not in the catalogue"):
        media.add(other)
    assert not media.directory().exists()


def test_what_is_missing_is_told_with_file_place_and_checksum(medium: Medium) -> None:
    said = media.missing("centos7", "7.9.2009")
    assert said is not None
    assert all(word in said for word in (medium.name, medium.url(), medium.sha256, f"labctl image fetch {medium.name}"))
    media.fetch(medium)
    assert media.missing("centos7", "7.9.2009") is None


# --- the verbs -------------------------------------------------------------------------------------


def test_list_and_fetch_and_verify_and_prune(site: Site, medium: Medium) -> None:
    runner = CliRunner()
    before = runner.invoke(app, ["image", "list", "-o", "json"])
    assert '"state": "absent"' in before.stdout
    assert runner.invoke(app, ["image", "fetch", "A.iso"]).exit_code == 0
    assert '"state": "present"' in runner.invoke(app, ["image", "list", "-o", "json"]).stdout
    assert runner.invoke(app, ["image", "verify"]).exit_code == 0

    media.path_of(medium).write_bytes(b"rotten")
    wrong = runner.invoke(app, ["image", "verify"])
    assert isinstance(wrong.exception, LabError)
    assert "A.iso" in wrong.exception.message

    leftovers = (media.directory() / ".B.iso.part", media.directory().parent / "guest" / ".cirros.img.part")
    for leftover in leftovers:
        leftover.parent.mkdir(exist_ok=True)
        leftover.write_bytes(b"half")
    assert runner.invoke(app, ["image", "prune"]).exit_code == 0
    assert not [leftover for leftover in leftovers if leftover.exists()]


def test_an_image_that_cannot_be_is_refused_with_those_that_can(site: Site) -> None:
    runner = CliRunner()
    wrong = runner.invoke(app, ["image", "build", "centos7", "--release", "zed"]).exception
    assert isinstance(wrong, LabError)
    assert wrong.message == "zed is not available on centos7"
    assert wrong.hint == "releases for it: mitaka, rocky, train"
    unknown = runner.invoke(app, ["image", "build", "centos6"]).exception
    assert isinstance(unknown, LabError)
    assert unknown.message == "unknown base 'centos6'"
    missing = runner.invoke(app, ["image", "build", "centos8"]).exception
    assert isinstance(missing, LabError)
    assert "CentOS-8.2.2004-x86_64-minimal.iso" in missing.message


def test_images_of_no_lab_go_only_when_that_is_asked_for() -> None:
    image = media.directory().parent / "debian12-debian-0123456789abcdef"
    (image / "tree").mkdir(parents=True)
    (image / "manifest.json").write_text("{}")
    runner = CliRunner()
    assert runner.invoke(app, ["image", "prune"]).exit_code == 0
    assert image.exists()
    assert runner.invoke(app, ["image", "prune", "--unused"]).exit_code == 0
    assert not image.exists()
