"""Golden images of this home on clouds that nothing uses: leftovers for ``labctl gc --images``.

They are asked for by this home's id on the clouds that ``clouds.json`` names. Those of other homes, and those of which
a server is made, are never touched; which ones labs need is decided as in the store here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files, lock, paths, sparse
from labctl.images.store import lock_of
from labctl.lab.finding import Finding
from labctl.records import clouds
from labctl.records.lab import lock_file

#: Whether a lab or snapshot needs an image of the store, as it is at this moment.
Needed = Callable[[], Callable[[Path], bool]]


def unused(needed: Needed) -> Iterator[Finding]:
    """Golden images on clouds that no lab, snapshot or server uses; a cloud that cannot be asked is one too."""
    from labctl.drivers.openstack import uploads

    for place in clouds.places():
        try:
            found = [image for image in uploads.unused(place) if not _wanted(place, image.name, needed)]
        except LabError as error:
            unknown = f"golden images on the cloud {place}: {error.message}"
            yield Finding("cloud", place, (unknown,), 0, _unknown(unknown))
            continue
        for image in found:
            part = f"image {image.id} of the cloud {place}"
            yield Finding("cloud image", image.name, (part,), image.size, _removal(place, image.name, needed))


def written() -> Iterator[Finding]:
    """Disks that were written in a cloud's format and that no upload reads: labctl was killed."""
    from labctl.drivers.openstack import uploads

    for path in sorted(uploads.directory().glob("*")):
        with lock.free(uploads.guard(path.name)) as free:
            if free:
                yield Finding("upload", path.name, (f"directory {path}",), sparse.used(path), _unless_read(path))


def _unless_read(path: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        from labctl.drivers.openstack import uploads

        with lock.tried(uploads.guard(path.name)) as free:
            return files.remove(path) if free else []

    return remove


def _wanted(place: str, name: str, needed: Needed) -> bool:
    """Whether a lab or snapshot needs a golden image on a cloud, or a command works on a lab there.

    What such a command has found or uploaded there is no server's yet.
    """
    here = paths.images() / name
    at_work = [lock_file(lab) for lab, cloud in clouds.known().items() if cloud == place]
    for path in (*at_work, lock_of(here)):
        with lock.free(path) as free:
            if not free:
                return True
    return needed()(here)


def _unknown(what: str) -> Callable[[], list[str]]:
    return lambda: [what]


def _removal(place: str, name: str, needed: Needed) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        from labctl.drivers.openstack import uploads

        with lock.tried(uploads.guard(name)) as free:
            if not free or _wanted(place, name, needed):  # a lab may have come up on it since it was found
                return []
            return [left for each in uploads.unused(place) if each.name == name for left in uploads.remove(place, each)]

    return remove
