"""Downloads that resume, are retried after transient errors, and are verified by checksum."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from labctl.errors import LabError
from labctl.host import files, lock, proxy
from labctl.progress import every, note, step
from labctl.topology.units import show_size

CHUNK = 2**20
#: Seconds to connect, and without data.
TIMEOUT = (10.0, 60.0)
#: Total attempts, and seconds before the first retry, doubled each time.
ATTEMPTS = 4
PAUSE = 1.0
#: Transient HTTP statuses, worth a retry (RFC 9110, RFC 6585).
_FOR_NOW = (429, 500, 502, 503, 504)

Ask = Callable[[str, Mapping[str, str]], requests.Response]


class DownloadError(LabError):
    """A download failed."""


class BrokenOffError(DownloadError):
    """A download was interrupted, or its site is temporarily unavailable."""


@dataclass(frozen=True)
class Digest:
    """A checksum; ``algorithm`` as hashlib calls it."""

    algorithm: str
    value: str

    def of(self, path: Path) -> Digest:
        """The checksum of a file with the same algorithm."""
        with path.open("rb") as source:
            return Digest(self.algorithm, hashlib.file_digest(source, self.algorithm).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm.upper().replace('SHA', 'SHA-')} {self.value}"


def ask(url: str, headers: Mapping[str, str]) -> requests.Response:
    """Request a file from a site."""
    return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT, proxies=proxy.for_requests())


def bring(
    final: Path,
    wanted: Digest,
    whole: Callable[[], bool],
    download: Callable[[Path], None],
    what: str,
    hint: str = "retry; if it happens again, something between here and the site modifies downloads",
) -> None:
    """Download a file and verify its checksum; one process downloads it, others wait.

    :param whole: whether the file is already complete.
    :param download: completes a partial file.
    :param what: the file's name in messages; ``hint`` is for a wrong checksum.
    :raises LabError: the checksum is wrong; the file was removed.
    :raises DownloadError: the download failed; the partial file is kept.
    """
    files.make_directories(final.parent)
    partial = final.with_name(f".{final.name}.part")
    with _alone(partial):
        if whole():
            return
        resumed = partial.stat().st_size > 0
        found = _downloaded(partial, wanted, download)
        if found != wanted and resumed:
            note("image", "the partial file of an earlier download does not match; starting again")
            found = _downloaded(partial, wanted, download)
        if found != wanted:
            raise LabError(f"{what} has {found}, not {wanted.value}; the file was removed", hint)
        files.move(partial, final)


def _downloaded(partial: Path, wanted: Digest, download: Callable[[Path], None]) -> Digest:
    """The checksum of the downloaded file; a file with a wrong checksum is truncated."""
    download(partial)
    with step("image", f"check {partial.name.removeprefix('.').removesuffix('.part')}"):
        found = wanted.of(partial)
    if found != wanted:
        with files.appended(partial, 0o644) as sink:
            sink.truncate(0)
    return found


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Lock a partial file; it is removed if it stays empty."""
    while True:
        with files.appended(partial, 0o644) as handle, lock.given_up(handle):
            lock.wait(handle, f"downloads {partial.name[1:].removesuffix('.part')}")
            if not lock.current(partial, handle):
                continue  # it was completed or removed meanwhile
            try:
                yield
            finally:
                if partial.exists() and not partial.stat().st_size:
                    files.erase(partial)
            return


def download(url: str, partial: Path, asked: Ask = ask, deadline: float | None = None) -> None:
    """Download the rest of a partial file; an interrupted download is resumed a few times.

    :param deadline: on the monotonic clock, in seconds.
    :raises DownloadError: it failed or timed out; says why.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(BrokenOffError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=PAUSE, max=30),
        before_sleep=_tell,
        reraise=True,
    )
    retrying(_attempt, url, partial, asked, deadline)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0
    said = error.message if isinstance(error, LabError) else error
    note("image", f"{said}; attempt {state.attempt_number + 1} of {ATTEMPTS} in {seconds:g} s")


def _attempt(url: str, partial: Path, asked: Ask, deadline: float | None) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    try:
        response = asked(url, {"Range": f"bytes={have}-"} if have else {})
    except requests.RequestException as error:
        raise DownloadError(f"{url} cannot be downloaded: {type(error).__name__}") from error
    with response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # it is complete
        if not response.ok:
            kind = BrokenOffError if response.status_code in _FOR_NOW else DownloadError
            raise kind(f"{url}: {response.status_code} {response.reason}")
        resumed = response.status_code == requests.codes.partial_content
        size = int(response.headers.get("Content-Length", 0))
        note("image", f"resuming at {show_size(have)}" if resumed else f"{url}: {show_size(size)}")
        with partial.open("ab" if resumed else "wb") as sink:
            _receive(url, response, sink, have if resumed else 0, size, deadline)


def _receive(
    url: str, response: requests.Response, sink: IO[bytes], have: int, rest: int, deadline: float | None
) -> None:
    """Write the response to the file, reporting progress every few seconds."""
    total, due = have + rest, every(5)
    try:
        for chunk in response.iter_content(CHUNK):
            sink.write(chunk)
            have += len(chunk)
            if deadline is not None and time.monotonic() > deadline:
                raise DownloadError(f"{url} timed out: {show_size(have)} received")
            if due():
                part = f" of {show_size(total)}, {100 * have // total} %" if rest else ""
                note("image", f"{show_size(have)}{part}")
    except requests.RequestException as error:
        raise BrokenOffError(f"{url} was interrupted after {show_size(have)}: {type(error).__name__}") from error
    if rest and have < total:
        raise BrokenOffError(f"{url} was interrupted after {show_size(have)} of {show_size(total)}")
