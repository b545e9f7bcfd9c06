"""Downloads go on where they ended, are tried again with the reason told, and count by their checksum."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import CONTENT, Site, served

from labctl import progress
from labctl.errors import LabError
from labctl.images import download
from labctl.images.download import BrokenOffError, Digest, DownloadError

WANTED = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as server:
        yield server


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)


@pytest.fixture
def notes() -> Iterator[list[str]]:
    seen: list[str] = []
    with progress.subscribed(lambda event: seen.append(event.text)):
        yield seen


def bring(site: Site, final: Path, wanted: Digest = WANTED) -> None:
    download.bring(final, wanted, final.exists, lambda partial: download.download(f"{site.url}/a", partial), "a")


def test_what_breaks_off_is_gone_on_with_and_the_reason_is_told(site: Site, tmp_path: Path, notes: list[str]) -> None:
    site.break_after, site.breaks = 2_000_000, 2
    bring(site, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [wanted is None for _, wanted in site.asked] == [True, False, False]
    assert [note for note in notes if "was interrupted after" in note and "attempt 2 of 4 in" in note]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_attempts_are_counted_and_what_came_is_kept_for_the_next_time(site: Site, tmp_path: Path) -> None:
    site.break_after = 1_200_000
    with pytest.raises(BrokenOffError, match="was interrupted after"):
        bring(site, tmp_path / "a")
    assert len(site.asked) == download.ATTEMPTS
    have = (tmp_path / ".a.part").stat().st_size
    assert have >= 2**20

    site.break_after = None
    bring(site, tmp_path / "a")
    assert site.asked[-1] == ("/a", f"bytes={have}-")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_site_without_ranges_begins_anew(site: Site, tmp_path: Path) -> None:
    site.ranges, site.break_after, site.breaks = False, 2_000_000, 1
    bring(site, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_site_that_is_busy_is_asked_again_and_one_that_has_no_such_file_is_not(site: Site, tmp_path: Path) -> None:
    site.refusals = [503, 429]
    bring(site, tmp_path / "a")
    assert len(site.asked) == 3
    site.refusals = [404]
    with pytest.raises(DownloadError, match=": 404 "):
        bring(site, tmp_path / "b")
    assert len(site.asked) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_rest_of_another_file_is_thrown_away_and_the_right_one_taken(site: Site, tmp_path: Path) -> None:
    (tmp_path / ".a.part").write_bytes(b"another" * 1000)
    bring(site, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == ["bytes=7000-", None]


def test_another_file_is_refused_and_removed(site: Site, tmp_path: Path) -> None:
    wanted = Digest("sha512", "0" * 128)
    with pytest.raises(LabError, match=r"a has SHA-512 [0-9a-f]{128}, not 0{128}; the file was removed"):
        bring(site, tmp_path / "a", wanted)
    assert list(tmp_path.iterdir()) == []
    assert len(site.asked) == 1


def test_a_download_ends_at_its_deadline(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="timed out"):
        download.download(f"{site.url}/a", tmp_path / "a", deadline=time.monotonic() - 1)
    assert len(site.asked) == 1


def test_two_at_once_download_it_once(site: Site, tmp_path: Path, notes: list[str]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(partial: Path) -> None:
        begun.set()
        go_on.wait(20)
        download.download(f"{site.url}/a", partial)

    final = tmp_path / "a"
    first = threading.Thread(target=download.bring, args=(final, WANTED, final.exists, slowly, "a"))
    second = threading.Thread(target=bring, args=(site, final))
    first.start()
    begun.wait(20)
    second.start()
    deadline = time.monotonic() + 20
    while "labctl already downloads a; waiting for it" not in notes and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    first.join()
    second.join()
    assert final.read_bytes() == CONTENT
    assert len(site.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
