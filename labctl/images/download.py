"""Downloads that go on where they ended, are tried again where that may help, and count by their checksum alone."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from labctl.errors import LabError
from labctl.host import lock
from labctl.progress import every, note, step
from labctl.topology.units import show_size

CHUNK = 2**20
#: Seconds to connect, and of silence.
TIMEOUT = (10.0, 60.0)
#: How often a download is begun or gone on with, and seconds before the second time, doubled each time after.
ATTEMPTS = 4
PAUSE = 1.0
#: Answers after which it is worth asking again (RFC 9110, RFC 6585).
_FOR_NOW = (429, 500, 502, 503, 504)

Ask = Callable[[str, Mapping[str, str]], requests.Response]


class DownloadError(LabError):
    """A file could not be had."""


class BrokenOffError(DownloadError):
    """It came in part, or its site cannot give it just now."""


@dataclass(frozen=True)
class Digest:
    """A checksum; ``algorithm`` as hashlib calls it."""

    algorithm: str
    value: str

    def of(self, path: Path) -> Digest:
        """The same kind of checksum of a file."""
        with path.open("rb") as source:
            return Digest(self.algorithm, hashlib.file_digest(source, self.algorithm).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm.upper().replace('SHA', 'SHA-')} {self.value}"


def ask(url: str, headers: Mapping[str, str]) -> requests.Response:
    """Ask a site for a file."""
    return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)


def bring(
    final: Path,
    wanted: Digest,
    whole: Callable[[], bool],
    download: Callable[[Path], None],
    what: str,
    hint: str = "try again; if it stays so, something between here and the site changes downloads",
) -> None:
    """Have a file that is what its checksum says; one process downloads it, others wait.

    :param whole: whether it is there already.
    :param download: adds to a file what it lacks.
    :param what: the file's name in messages; ``hint`` for one that is another.
    :raises LabError: it is not what its checksum says, and was removed.
    :raises DownloadError: what came of it is kept for the next time.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.part")
    with _alone(partial):
        if whole():
            return
        resumed = partial.stat().st_size > 0
        found = _downloaded(partial, wanted, download)
        if found != wanted and resumed:
            note("image", "what an earlier download left is not part of it; beginning anew")
            found = _downloaded(partial, wanted, download)
        if found != wanted:
            raise LabError(f"{what} has {found}, not {wanted.value}; the file was removed", hint)
        partial.replace(final)


def _downloaded(partial: Path, wanted: Digest, download: Callable[[Path], None]) -> Digest:
    """The checksum of what came; a file that is not the one that is wanted is emptied."""
    download(partial)
    with step("image", f"check {partial.name.removeprefix('.').removesuffix('.part')}"):
        found = wanted.of(partial)
    if found != wanted:
        os.truncate(partial, 0)
    return found


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Hold a file that is being downloaded; it goes when nothing is in it."""
    while True:
        with partial.open("ab") as handle:
            lock.wait(handle, f"downloads {partial.name[1:].removesuffix('.part')}")
            if not partial.exists() or partial.stat().st_ino != os.fstat(handle.fileno()).st_ino:
                continue  # it has come to its place, or was removed
            try:
                yield
            finally:
                if partial.exists() and not partial.stat().st_size:
                    partial.unlink()
            return


def download(url: str, partial: Path, asked: Ask = ask, deadline: float | None = None) -> None:
    """Add to a file what it lacks of another at a site; what breaks off is gone on with a few times.

    :param deadline: of the monotonic clock, in seconds.
    :raises DownloadError: it cannot be had, or not in time; says why.
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
        raise DownloadError(f"{url} cannot be had: {type(error).__name__}") from error
    with response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # it is all there
        if not response.ok:
            kind = BrokenOffError if response.status_code in _FOR_NOW else DownloadError
            raise kind(f"{url} answers {response.status_code} {response.reason}")
        resumed = response.status_code == requests.codes.partial_content
        size = int(response.headers.get("Content-Length", 0))
        note("image", f"going on after {show_size(have)}" if resumed else f"{url}: {show_size(size)}")
        with partial.open("ab" if resumed else "wb") as sink:
            _receive(url, response, sink, have if resumed else 0, size, deadline)


def _receive(
    url: str, response: requests.Response, sink: IO[bytes], have: int, rest: int, deadline: float | None
) -> None:
    """Write what comes, and say every few seconds how much of it is there."""
    total, due = have + rest, every(5)
    try:
        for chunk in response.iter_content(CHUNK):
            sink.write(chunk)
            have += len(chunk)
            if deadline is not None and time.monotonic() > deadline:
                raise DownloadError(f"{url} is not complete in time: {show_size(have)} came")
            if due():
                part = f" of {show_size(total)}, {100 * have // total} %" if rest else ""
                note("image", f"{show_size(have)}{part}")
    except requests.RequestException as error:
        raise BrokenOffError(f"{url} broke off after {show_size(have)}: {type(error).__name__}") from error
    if rest and have < total:
        raise BrokenOffError(f"{url} broke off after {show_size(have)} of {show_size(total)}")
