"""Exported snapshots, wherever they are: looked into before they are brought, brought whole, and sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.artefacts import fetch, place, send
from labctl.host import files, lock, paths, signature
from labctl.lab import portable
from labctl.lab import snapshot as snaps
from labctl.progress import note
from labctl.records.lab import Lab


@dataclass(frozen=True)
class Export:
    """An exported snapshot: how it may be called, its header, and what brings the whole file here."""

    shown: str
    header: portable.Header
    _whole: Callable[[], Path]
    _checked: bool

    def import_(self, *, boot: bool = False, signers: Path | None = None) -> Lab:
        """Create its lab, stopped; the caller holds the lock of the lab's name.

        :raises LabError: as :func:`labctl.lab.portable.import_`, or it cannot be brought here.
        """
        portable.admit(self.header, self.shown)
        path = self._whole()
        return portable.import_(path, self.header, boot=boot, signers=signers, shown=self.shown, checked=self._checked)


@contextmanager
def opened(where: str) -> Iterator[Export]:
    """Look into an exported snapshot, of which no more than its header is brought here before it is imported.

    :param where: a file, or a URL.
    :raises LabError: it is not one, or cannot be reached.
    """
    path = place.local(where)
    if path is not None:
        yield Export(str(path), portable.read(path), lambda: path, False)
        return
    with fetch.arriving(where) as arrival:
        header = portable.read(arrival.head(), arrival.shown)
        yield Export(arrival.shown, header, lambda: arrival.whole(_unpacked(header)), True)


def _unpacked(header: portable.Header) -> int:
    """Bytes that the unpacked lab needs where the archive arrives."""
    place_of = [path.stat().st_dev for path in (paths.labs(), paths.archives())]
    return header.bytes if len(set(place_of)) == 1 else 0


def export(lab: Lab, name: str, url: str, key: Path | None = None) -> int:
    """Write a snapshot of a lab to a URL; the caller holds the lab's lock. The lab keeps running.

    The file is packed here first, and stays until it has been sent: the same command goes on from there.

    :param key: sign it with this SSH key.
    :return: the file's size in bytes.
    :raises LabError: there is no such snapshot, it cannot leave this host, or the URL takes no file.
    """
    place.at(url)  # what is not installed is said before anything is packed
    files.make_directories(paths.archives(), 0o700)
    packed = paths.archives() / f"{lab.id}-{name}-{snaps.find(lab, name).created:.0f}.tar.zst"
    with lock.exclusive(fetch.guard(packed), f"exports {name}"):
        try:
            return _sent(lab, name, packed, url, key)
        finally:
            files.erase(fetch.guard(packed))


def _sent(lab: Lab, name: str, packed: Path, url: str, key: Path | None) -> int:
    again = packed.exists()
    if again:
        note("lab", f"{packed} is here already, from an export that was not sent")
    else:
        portable.export(lab, name, packed)
    files.discard(signature.of(packed))
    if key is not None:
        signature.sign(packed, key)
    try:
        send.send(packed, url, again=again)
    except BaseException:
        note("lab", f"{packed} is kept for the same command again; labctl gc --images removes it")
        raise
    size = packed.stat().st_size
    for path in (packed, signature.of(packed)):
        files.erase(path)
    return size
