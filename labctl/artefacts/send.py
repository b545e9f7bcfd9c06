"""Uploads of archives."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from labctl.artefacts import failure, place
from labctl.artefacts.fetch import asked
from labctl.host import signature
from labctl.progress import Meter, note, step
from labctl.topology.units import show_size


def send(path: Path, url: str, *, again: bool = False) -> None:
    """Write a file to a URL, and its signature beside it; without one, the signature of what was there is removed.

    :param again: an earlier upload of the same file was cut off.
    :raises LabError: it cannot be written; says why, and the file on this machine is untouched.
    """
    shown, beside = place.hidden(url), place.beside(url, signature.of(path).suffix)
    with step("lab", f"upload {shown}"):
        with suppress(failure.DeniedError):  # some may write and not remove; then import says whose it is not
            asked(beside, place.at(beside).remove)
        there = _put(path, url)
        if there:
            note("lab", f"{show_size(there)} of an earlier upload were there already")
        elif again:
            note("lab", "an earlier upload was cut off, of which nothing could be used: it began again")
        if signature.of(path).exists():
            _put(signature.of(path), beside)


def _put(path: Path, url: str) -> int:
    meter, done, size = Meter("lab"), 0, path.stat().st_size

    def sent(count: int) -> None:
        nonlocal done
        done += count
        meter(f"{show_size(done)} of {show_size(size)}", done / size)

    target = place.at(url)
    return asked(url, lambda: target.put(path, sent))
