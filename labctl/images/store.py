"""The image store: an image's name is the hash of its recipe.

An image is built in a hidden directory under a lock, described by a manifest, and renamed into place atomically, so
an incomplete image is never visible. The build log is kept in it, or in labctl's logs if the build failed. On use
the tree is compared with its manifest by every file's path, size, mode and modification time; a modified tree is
refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import IO, Any

from labctl.errors import LabError, NoSpaceError
from labctl.host import files, lock, paths, process, state
from labctl.progress import step
from labctl.topology.units import show_size

#: Prefix of an unfinished image's name.
BUILDING = ".building-"


@dataclass(frozen=True)
class Recipe:
    """What an image is built from; equal recipes give equal names."""

    kind: str
    inputs: dict[str, Any]

    @property
    def name(self) -> str:
        """Content address."""
        text = json.dumps([self.kind, self.inputs], sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def tree_digest(root: Path) -> str:
    """Hash of every entry's path, type, mode, owner, size and modification time (not of its content)."""
    found = hashlib.sha256()
    pending = [str(root)]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                status = entry.stat(follow_symlinks=False)
                is_directory = entry.is_dir(follow_symlinks=False)
                if is_directory:
                    pending.append(entry.path)
                size = 0 if is_directory else status.st_size
                line = f"{entry.path[len(str(root)) :]} {status.st_mode:o} {status.st_uid} {status.st_gid} {size}"
                if not is_directory:
                    line += f" {status.st_mtime_ns}"
                found.update(line.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()


def lock_of(image: Path) -> Path:
    """An image's lock, held to build or remove it."""
    return image.with_name(f".{image.name}.lock")


#: Locks of the images that the current work uses, by image; None outside of :func:`keeping`.
_kept: ContextVar[dict[Path, IO[str]] | None] = ContextVar("kept", default=None)


@contextmanager
def keeping() -> Iterator[None]:
    """Keep every image that a block gets from the store, or names to :func:`keep`, from removal until it ends.

    A lab's images are kept until its record names them, a build's until it ends. Inside another such block, images
    are kept until the outer one ends.
    """
    if _kept.get() is not None:
        yield
        return
    locks: dict[Path, IO[str]] = {}
    token = _kept.set(locks)
    try:
        yield
    finally:
        _kept.reset(token)
        for handle in locks.values():
            lock.give_up(handle)


def keep(image: Path) -> None:
    """Share an image's lock until the surrounding :func:`keeping` ends.

    :raises LabError: the image is gone.
    """
    locks = _kept.get()
    if locks is not None and image not in locks and not _share(image, locks):
        raise LabError(f"the image {image.name} was removed meanwhile", "repeat the same command, which builds it")


def _share(image: Path, locks: dict[Path, IO[str]]) -> bool:
    """Share an image's lock; False, and no lock, when there is no such image."""
    if image not in locks:
        locks[image] = lock.shared(lock_of(image), f"builds {image.name}")
    if image.exists():
        return True
    lock.give_up(locks.pop(image))
    return False


@contextmanager
def building(final: Path) -> Iterator[None]:
    """Hold the lock of an image being built; waits for another labctl that is building the same."""
    if (mine := (_kept.get() or {}).pop(final, None)) is not None:
        lock.give_up(mine)  # a process that shares a lock would wait for itself
    with lock.exclusive(lock_of(final), f"builds {final.name}"):
        yield


def verify(directory: Path) -> None:
    """Compare an image with its manifest.

    :raises LabError: it was modified.
    """
    if tree_digest(directory / "tree") != identity(directory):
        raise LabError(
            f"the image {directory.name} was modified after it was built",
            f"rm -rf {directory}; then repeat the same command",
        )


def ensure(recipe: Recipe, build: Callable[[Path], dict[str, Any]], over: Iterable[Path] = ()) -> Path:
    """Return the image of a recipe, building it if missing. In :func:`keeping` it is kept.

    :param build: fills ``DIRECTORY/tree`` and returns facts for the manifest.
    :param over: images that it is built from; they are kept until it is built, like those that ``build`` gets.
    :raises LabError: the build failed (only its log is kept), or the stored image was modified.
    """
    final = paths.images() / recipe.name
    with keeping():
        locks = _kept.get()
        assert locks is not None
        made = False
        while not _share(final, locks):
            for image in over:
                keep(image)
            with building(final):
                if made := not final.exists():
                    _build(recipe, build, final)
        if not made:
            with step("image", f"verify {recipe.name}"):
                verify(final)
    return final


def _build(recipe: Recipe, build: Callable[[Path], dict[str, Any]], final: Path) -> None:
    """Build an image; the caller holds its lock."""
    work = cleared(final)
    files.make_directories(work)
    log = log_of(work)
    files.make_directories(log.parent)
    files.discard(log)
    mask = os.umask(0o022)  # a tree's modes must not depend on the user's umask
    try:
        with step("image", f"build {recipe.name}"):
            facts = build(work)
            manifest = {
                "name": recipe.name,
                "recipe": recipe.inputs,
                "tree": tree_digest(work / "tree"),
                **facts,
            }
            if log.exists():
                files.copy(log, work / "build.log")
                files.discard(log)
            files.write_atomic(work / "manifest.json", json.dumps(manifest, indent=1))
            files.move(work, final)
    except BaseException as error:
        full = out_of_space(error, work)
        files.remove(work)
        if full is not None:
            raise full from error
        if isinstance(error, LabError):
            error.message = f"image {recipe.kind}: {error.message}"
        raise
    finally:
        os.umask(mask)


def identity(directory: Path) -> str:
    """The identity of an image's content: the hash of its tree. Two builds of the same recipe differ in it."""
    return str(manifest_of(directory)["tree"])


def find(name: str, digest: str) -> Path | None:
    """The image with this name and :func:`identity`, None if the store does not have it."""
    places = (paths.images() / name, _beside(name, digest), paths.images() / name.removesuffix(f"-{digest[:8]}"))
    return next((p for p in places if (p / "manifest.json").exists() and identity(p) == digest), None)


def _beside(name: str, digest: str) -> Path:
    """The path of an image that was built elsewhere: no recipe has its name, so no other lab is built on it."""
    suffix = f"-{digest[:8]}"
    return paths.images() / f"{name.removesuffix(suffix)}{suffix}"


def take(made: Path, digest: str) -> Path:
    """Add an image that was built elsewhere to the store, if it is not there.

    :param made: its directory, named as in its own store; it is moved or removed.
    :param digest: its identity there.
    :raises LabError: its content does not match its manifest or identity.
    """
    if there := find(made.name, digest):  # a lab may share its lock for long
        keep(there)
        files.erase(made)
        return there
    with building(paths.images() / made.name):
        if there := find(made.name, digest):
            keep(there)
            files.erase(made)
            return there
        final = _beside(made.name, digest)
        verify(made)
        if identity(made) != digest:
            raise LabError(f"the image {made.name} is not the expected one: its tree has a different hash")
        work = cleared(paths.images() / made.name)
        process.run(["mv", "-T", made, work], timeout=1800)  # perhaps from another file system
        files.move(work, final)
    keep(final)
    return final


def out_of_space(error: BaseException, place: Path) -> LabError | None:
    """The error for a build that ran out of disk space, None if it failed for another reason."""
    said = error.message if isinstance(error, LabError) else str(error)
    if "no space left on device" not in said.lower() and getattr(error, "errno", None) not in (ENOSPC, EDQUOT):
        return None
    free = shutil.disk_usage(place).free
    return NoSpaceError(
        f"no space left on the file system of {place.parent} ({show_size(free)} free) to build the image\n{said}",
        "labctl gc --images, or LABCTL_HOME on a larger file system; finished layers are kept",
    )


def log_of(work: Path) -> Path:
    """The log file of a build."""
    return paths.logs() / f"{work.name.removeprefix(BUILDING)}.log"


def tree(name: str) -> Path:
    """The files of an image.

    :raises LabError: it is not in the store any more.
    """
    found = paths.images() / name / "tree"
    if not found.is_dir():
        raise LabError(f"the image {name} is gone from {paths.images()}")
    return found


def manifest_of(directory: Path) -> dict[str, Any]:
    """An image's manifest: its recipe, the hash of its tree, facts from its build.

    :raises LabError: it cannot be read.
    """
    path, hint = directory / "manifest.json", f"rm -rf {directory}; then repeat the same command"
    found: dict[str, Any] = state.read(path, dict[str, Any], hint)
    if not isinstance(found.get("tree"), str):
        raise LabError(f"{path} cannot be read: it has no tree", hint)
    return found


def cleared(final: Path) -> Path:
    """The working directory of a build, beside its final path; leftovers of a killed build are removed.

    The caller holds the lock, so no other build is using it.
    """
    work = final.with_name(f"{BUILDING}{final.name}")
    if work.exists():
        files.erase(work)
    return work
