"""Downloads of archives that go on where they were cut off, and are whole and intact before anybody uses them.

What has arrived is a part file in labctl's home, named by the URL and by what the server says of the file, so a file
that changed there is never put together with what it was before. One process downloads a URL, others wait.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from labctl.artefacts import failure, place
from labctl.artefacts.place import Place, Stat, WholeOnlyError
from labctl.errors import DeadlineError, LabError, NoSpaceError
from labctl.host import archive, files, lock, paths, signature
from labctl.progress import Meter, note, step
from labctl.topology.units import show_size

#: Seconds for a whole download.
DEADLINE = 7200.0
#: Attempts without a byte between them, and seconds before the second one, doubled each time.
ATTEMPTS = 4
PAUSE = 1.0
#: Bytes that a download leaves free.
RESERVE = 256 * 2**20
#: More than any signature, in bytes.
_SIGNATURE = 2**16

Found = TypeVar("Found")


def guard(path: Path) -> Path:
    """The lock that is held while a file is on its way."""
    return path.with_name(f"{path.name.partition('-')[0]}.lock")


@contextmanager
def arriving(url: str) -> Iterator[Arrival]:
    """Hold what is here of an archive elsewhere; it is removed when the block ends without an error.

    :raises LabError: there is no such file, it cannot be reached, or a library for it is not installed.
    """
    source, shown = place.at(url), place.hidden(url)
    files.make_directories(paths.archives(), 0o700)
    key = _short(place.hidden(url).encode())
    held = guard(paths.archives() / f"{key}-")
    with lock.exclusive(held, f"downloads {shown}"):
        try:
            with step("lab", f"look at {shown}"):
                stat = _again(lambda: asked(url, source.stat))
            part = paths.archives() / f"{key}-{_short(f'{stat.version} {stat.size}'.encode())}.part"
            _discard_others(key, part, shown)
            with _kept(Arrival(url, part, stat, source)) as arrival:
                yield arrival
        finally:
            files.erase(held)


@contextmanager
def _kept(arrival: Arrival) -> Iterator[Arrival]:
    """Keep what has arrived where it could not be used."""
    try:
        yield arrival
    except BaseException:
        arrival.leave()
        raise
    arrival.discard()


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _discard_others(key: str, part: Path, shown: str) -> None:
    """Throw away what is here of what the file was before."""
    for other in paths.archives().glob(f"{key}-*"):
        if not other.name.startswith(part.name):
            note("lab", f"{shown} has changed; {show_size(other.stat().st_size)} of what it was are thrown away")
            files.erase(other)


class Arrival:
    """An archive elsewhere, of which a part is here."""

    def __init__(self, url: str, part: Path, stat: Stat, source: Place) -> None:
        self.shown = place.hidden(url)
        self.part = part
        self.stat = stat
        self._url = url
        self._source = source
        self._until = time.monotonic() + DEADLINE
        self._ranges = True
        self._checksum, self._summed = archive.Checksum(), 0
        files.appended(part).close()
        self._wanted = self.have > 0

    @property
    def have(self) -> int:
        """Bytes that are here."""
        return self.part.stat().st_size

    def leave(self) -> None:
        """Keep what is here for the next time, unless there is nothing that anybody asked for."""
        if not self._wanted or not self.part.exists() or not self.have:
            self.discard()

    def discard(self) -> None:
        """Remove what is here."""
        files.erase(self.part)
        files.erase(signature.of(self.part))

    def head(self) -> Path:
        """The part file, with at least the archive's header in it.

        :raises LabError: it cannot be downloaded, or is no archive.
        """
        with self._useful():
            self._until_there(archive.BEGINNING)
            self._until_there(archive.header_end(self.part, self.shown))
        return self.part

    def whole(self, needed: int = 0) -> Path:
        """The whole archive, its checksum verified, with its signature beside it if it has one.

        :param needed: bytes that its user needs on the same file system besides.
        :raises LabError: it cannot be downloaded; what has arrived is kept.
        :raises NoSpaceError: it is larger than what is free; nothing more is downloaded.
        :raises NoArchiveError: it is damaged, and was removed.
        """
        self._require_room(needed)
        self._wanted = True
        with step("lab", f"download {self.shown}"), self._useful():
            if self.have > place.BLOCK:
                note("lab", f"{show_size(self.have)} are here already")
            self._until_there(None)
            self._verify()
        self._fetch_signature()
        return self.part

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        missing = max(0, (self.stat.size or 0) - self.have)
        if missing + needed + RESERVE > free:
            also = f", and {show_size(needed)} unpacked" if needed else ""
            raise NoSpaceError(
                f"{self.part.parent} has {show_size(free)} free; "
                f"{show_size(missing)} of {self.shown} are still to come{also}",
                "labctl gc --images",
            )

    @contextmanager
    def _useful(self) -> Iterator[None]:
        """Throw the part away where it is of no use any more."""
        try:
            yield
        except (archive.NoArchiveError, failure.ChangedError):
            self.discard()
            raise

    def _until_there(self, wanted: int | None) -> None:
        """Download up to so many bytes, or all; a connection that ends early is opened again.

        It is given up after some attempts that brought nothing.
        """
        while wanted is None or self.have < wanted:
            before = self.have
            try:
                _again(lambda: self._attempt(wanted))
                return
            except failure.BrokenOffError:
                if self.have <= before or not self._ranges:
                    self._require_same()
                    raise

    def _attempt(self, wanted: int | None) -> None:
        if self._ranges and self.have == self.stat.size:
            return
        if self._ranges:
            try:
                self._receive(self._source.blocks(self.have, self.stat), wanted)
                return
            except WholeOnlyError:
                self._ranges = False
        if self.have:
            note("lab", f"{self.shown}: the server sends only whole files; the download begins again")
        self._checksum, self._summed = archive.Checksum(), 0
        with files.appended(self.part) as sink:
            sink.truncate(0)
        self._receive(self._source.stream(self._until - time.monotonic()), None)

    def _receive(self, blocks: Iterator[bytes], wanted: int | None) -> None:
        have, size, meter = self.have, self.stat.size, Meter("lab")
        with files.appended(self.part) as sink:
            for data in _mapped(self._url, blocks):
                self._write(sink, data, have)
                have += len(data)
                meter(f"{show_size(have)}{f' of {show_size(size)}' if size else ''}", have / size if size else None)
                if time.monotonic() > self._until:
                    raise DeadlineError(
                        f"{self.shown} timed out after {DEADLINE:g} s: {show_size(have)} are here",
                        "the same command again, which goes on from here",
                    )
                if (wanted is not None and have >= wanted) or (size is not None and have > size):
                    return
        if size is not None and have < size:
            raise failure.BrokenOffError(
                f"{self.shown} ended after {show_size(have)} of {show_size(size)}",
                "the same command again, which goes on from here",
            )

    def _write(self, sink: IO[bytes], data: bytes, have: int) -> None:
        if self.stat.size is None and shutil.disk_usage(self.part.parent).free < RESERVE:
            raise NoSpaceError(f"no space left on the file system of {self.part.parent}", "labctl gc --images")
        left = memoryview(data)
        try:
            while left:
                left = left[sink.write(left) :]
        except OSError as error:
            raise NoSpaceError(f"{self.part} cannot be written: {error.strerror}", "labctl gc --images") from error
        if have == self._summed:
            self._checksum.update(data)
            self._summed += len(data)

    def _verify(self) -> None:
        """Compare the checksum, after adding to it what was here before this process.

        :raises NoArchiveError: it is another one.
        """
        with files.opened(self.part) as source:
            source.seek(self._summed)
            while data := source.read(place.BLOCK):
                self._checksum.update(data)
        try:
            self._checksum.verify(self.shown)
        except archive.NoArchiveError as error:
            self._require_same()
            raise archive.NoArchiveError(f"{error.message}; the download was thrown away", error.hint) from error

    def _require_same(self) -> None:
        """Ask whether the file is still what it was.

        :raises ChangedError: it is not.
        """
        if asked(self._url, self._source.stat) != self.stat:
            raise failure.ChangedError(f"{self.shown} was changed while it was downloaded", "the same command again")

    def _fetch_signature(self) -> None:
        """Bring the file's signature; a server that shows none has none."""
        files.erase(signature.of(self.part))
        url = place.beside(self._url, signature.of(Path("x")).suffix)
        source = place.at(url)
        with suppress(failure.AbsentError, failure.DeniedError):
            stat = _again(lambda: asked(url, source.stat))
            content = b"".join(_mapped(url, source.stream(place.SLOWEST))) if (stat.size or 0) <= _SIGNATURE else b""
            files.write_atomic(signature.of(self.part), content, 0o600)


def _mapped(url: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of a library, whose errors become labctl's."""
    with minding(url):
        yield from blocks


def asked(url: str, question: Callable[[], Found]) -> Found:
    """An answer of a library, whose errors become labctl's."""
    with minding(url):
        return question()


@contextmanager
def minding(url: str) -> Iterator[None]:
    """Turn a library's errors into labctl's."""
    try:
        yield
    except Exception as error:
        said = failure.told(error, place.hidden(url), place.credentials(url))
        if said is None:
            raise
        raise said from error


def _again(what: Callable[[], Found]) -> Found:
    """Do something; again after some seconds where it broke off."""
    retrying = Retrying(
        retry=retry_if_exception_type(failure.BrokenOffError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=PAUSE, max=30),
        before_sleep=_tell,
        reraise=True,
    )
    return retrying(what)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0
    said = error.message if isinstance(error, LabError) else error
    note("lab", f"{said}; attempt {state.attempt_number + 1} of {ATTEMPTS} in {seconds:g} s")
