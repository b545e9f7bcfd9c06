"""Find and remove leftovers: what labctl created and nothing owns any more.

Everything labctl creates is marked with its labctl home and lab: control groups and containers by their
names, a network by a line in its ``/etc/netns`` directory, mounts and loop devices by the path below that
home. A lab with a record owns its resources; a held lock means that a command is running. Leftovers are
listed here, and removed on request. What has no mark, or that of another home, is never touched.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from labctl import drivers
from labctl.artefacts import fetch
from labctl.errors import LabError
from labctl.host import cgroup, files, lock, loops, network, overlay, paths, sparse
from labctl.images.store import BUILDING, lock_of
from labctl.lab import down as teardown
from labctl.lab import snapshot as snaps
from labctl.lab import uploaded
from labctl.lab.finding import Finding
from labctl.progress import step
from labctl.records import clouds
from labctl.records.directory import exists, names
from labctl.records.lab import Lab, lock_file, locked
from labctl.topology.model import NAME


def find(*, images: bool = False, besides: Collection[str] = ()) -> list[Finding]:
    """All leftovers of this home.

    :param images: also images that no lab uses, here and on clouds, cached packages they were built from, and parts of
        archives, which the next command may have to build, upload and download again.
    :param besides: labs that will be removed as a whole.
    :raises LabError: ``images`` is set, but which images are needed cannot be determined.
    """
    found = [*_labs(), *_inside_labs(besides), *_litter(), *_locks(), *_builds(), *_logs(), *uploaded.written()]
    return [*found, *unused_images(), *uploaded.unused(_needed), *_downloads(), *_archives()] if images else found


def remove(found: list[Finding]) -> list[str]:
    """Remove as many findings as possible; returns what could not be removed."""
    left: list[str] = []
    for finding in found:
        with step("gc", f"remove {finding.kind} {finding.name}"):
            try:
                left += finding.remove()
            except LabError as error:
                left.append(f"{finding.kind} {finding.name}: {error.message}")
    return left


# --- labs without a record -------------------------------------------------------------------------


def _labs() -> Iterator[Finding]:
    """Labs with resources but without a record."""
    known = {*network.marked(), *cgroup.labs(), *clouds.known()}
    below = f"{paths.labs()}/"
    for path in (*overlay.below(paths.labs()), *loops.attached(paths.labs()).values()):
        known.add(str(path).removeprefix(below).partition("/")[0])
    if paths.labs().is_dir():
        known |= {p.name for p in paths.labs().iterdir()}
    for name in sorted(n for n in known if re.fullmatch(NAME, n) and not exists(n)):
        with lock.free(lock_file(name)) as free:
            parts = tuple(teardown.remains(name)) if free else ()
        if parts:
            yield Finding("lab", name, parts, sparse.used(paths.labs() / name), _by_down(name))


def _by_down(name: str) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        with locked(name, "labctl gc"):
            if not exists(name):
                teardown.down(name)
        return []

    return remove


# --- inside labs -----------------------------------------------------------------------------------


def _inside_labs(besides: Collection[str]) -> Iterator[Finding]:
    """Leftovers in labs with a record: unused layers, and parts of nodes that are not theirs."""
    for name in (n for n in names() if n not in besides):
        try:
            lab = Lab.load(name)
        except LabError:  # `labctl list` reports it, and only its user knows what it was
            continue
        with lock.free(lock_file(name)) as free:
            if not free:
                continue
            waste = snaps.waste(lab)
            nodes = _strangers(lab)
        if waste:
            parts = tuple(map(_named, waste))
            yield Finding("layers", name, parts, sparse.used(*waste), _held(lab, _sweep))
        if nodes:
            yield Finding("nodes", name, tuple(nodes), 0, _held(lab, _remove_strangers))


def _held(lab: Lab, work: Callable[[Lab], list[str]]) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        with locked(lab.name, "labctl gc"):
            return work(Lab.load(lab.name))

    return remove


def _sweep(lab: Lab) -> list[str]:
    snaps.sweep(lab)
    return list(map(_named, snaps.waste(lab)))


def _named(path: Path) -> str:
    return f"{'directory' if path.is_dir() else 'file'} {path}"


def _strangers(lab: Lab) -> list[str]:
    """Machines of a lab that are not among its nodes, as a killed restore leaves them."""
    mine = {network.lab_namespace(lab.name), *(network.node_namespace(lab.name, n) for n in lab.spec.nodes)}
    found = [f"namespace {n}" for n in network.namespaces(lab.name) if n not in mine]
    top = cgroup.path(lab.name)
    found += [
        f"control group {p}"
        for p in sorted(top.glob("*"))
        if p.is_dir() and _is_node(p.name) and p.name not in lab.spec.nodes
    ]
    nodes = lab.directory / "nodes"
    found += [f"directory {p}" for p in sorted(nodes.glob("*")) if p.is_dir() and p.name not in lab.spec.nodes]
    return found


def _is_node(group: str) -> bool:
    """False for the control group of a driver's helper processes; no node's name has an underscore."""
    return not group.startswith("_")


def _remove_strangers(lab: Lab) -> list[str]:
    there = {p.name for p in (lab.directory / "nodes").glob("*")}
    there |= {p.name for p in cgroup.path(lab.name).glob("*") if p.is_dir() and _is_node(p.name)}
    there |= {n.removeprefix(network.lab_namespace(lab.name) + ".") for n in network.namespaces(lab.name)}
    there -= {network.lab_namespace(lab.name)}
    return [item for node in sorted(there - set(lab.spec.nodes)) for item in lab.driver.destroy(lab, node)]


def _litter() -> Iterator[Finding]:
    """Directories that the drivers' programs left for labs that are gone."""
    try:
        recorded = {Lab.load(name).id for name in names()}
    except LabError:  # a lab of a newer labctl may be running, and which directories are its cannot be told
        return
    for path in (p for driver in drivers.every() for p in driver.litter(recorded)):
        yield Finding("container", path.name, (f"directory {path}",), 0, _rmdir(path))


def _rmdir(path: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        with suppress(FileNotFoundError):
            try:
                files.remove_empty(path)
            except OSError as error:
                return [f"directory {path}: {error.strerror}"]
        return []

    return remove


# --- locks -----------------------------------------------------------------------------------------


def _locks() -> Iterator[Finding]:
    """Stale lock files: held by nobody, of labs that do not exist."""
    for path in sorted((paths.home() / "locks").glob("*.lock")):
        with lock.free(path) as free:
            if free and not (paths.labs() / path.stem).exists():
                yield Finding("lock", path.stem, (f"file {path}",), sparse.used(path), _unlink(path))


def _unlink(path: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        with lock.free(path) as free:
            if free:
                files.discard(path)
        return []

    return remove


# --- images ----------------------------------------------------------------------------------------


def _store() -> Path | None:
    """The image store, when it is this home's own and not a link to another's."""
    return paths.images() if paths.images().is_dir() and not paths.images().is_symlink() else None


def _builds() -> Iterator[Finding]:
    """Abandoned image builds with the processes in them, and locks of images that do not exist."""
    store = _store()
    if store is None:
        return
    for work in sorted(store.glob(f"{BUILDING}*")):
        image = _built_in(work)
        with lock.free(lock_of(image)) as free:
            if free:
                parts = (f"directory {work}", *(f"process {pid}" for pid in _at_work(work)))
                yield Finding("image build", image.name, parts, sparse.used(work), _end(work))
    for path in sorted(store.glob(".*.lock")):
        name = path.name.removeprefix(".").removesuffix(".lock")
        with lock.free(path) as free:
            if free and not (store / name).exists() and not (store / f"{BUILDING}{name}").exists():
                yield Finding("lock", name, (f"file {path}",), sparse.used(path), _unlink(path))


def _logs() -> Iterator[Finding]:
    """Logs of failed programs, including image builds; not of a running build."""
    for log in sorted(paths.logs().glob("*.log")):
        with lock.free(lock_of(paths.images() / log.stem)) as free:
            if free:
                yield Finding("log", log.stem, (f"file {log}",), sparse.used(log), _forget(log))


def _downloads() -> Iterator[Finding]:
    """Packages in labctl's own cache; a cache shared between homes is never removed."""
    cache = paths.home() / "cache" / "apt"
    if paths.cache() == cache.parent and cache.is_dir():
        yield Finding("downloads", "apt", (f"directory {cache}",), sparse.used(cache), _forget(cache))


def _archives() -> Iterator[Finding]:
    """Exported labs that were not brought here or sent; the same command again would go on with them."""
    for path in sorted(paths.archives().glob("*")):
        with lock.free(fetch.guard(path)) as free:
            if free:
                yield Finding("archive", path.name, (f"file {path}",), sparse.used(path), _unless_on_its_way(path))


def _unless_on_its_way(path: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        with lock.free(fetch.guard(path)) as free:
            return files.remove(path) if free else []

    return remove


def _forget(path: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        return files.remove(path)

    return remove


def _at_work(directory: Path) -> list[int]:
    """Leftover processes of a killed build: those rooted in its tree, and the installer that creates it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has exited
            words = (process / "cmdline").read_text(errors="replace").split("\0")
            installer = any(Path(word).name == "mmdebstrap" for word in words[:2]) and any(
                word.startswith(f"{directory}/") for word in words
            )
            if installer or (process / "root").readlink().is_relative_to(directory):
                found.append(int(process.name))
    return sorted(found)


def _built_in(work: Path) -> Path:
    """The image that a build's working directory is for."""
    return work.with_name(work.name.removeprefix(BUILDING))


def _end(work: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        path = lock_of(_built_in(work))
        with lock.tried(path) as free:
            if not free:
                return []
            deadline = time.monotonic() + 10
            while (pids := _at_work(work)) and time.monotonic() < deadline:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            left = [f"mount {path}: {why}" for path in overlay.below(work) if (why := overlay.unmount(path))]
            if left:
                return left
            left = files.remove(work)
            files.discard(path)
            return left

    return remove


def unused_images(pattern: str = "[!.]*") -> Iterator[Finding]:
    """Images that no lab or snapshot uses, and that no machine of any home has mounted."""
    store = _store()
    if store is None:
        return
    needed = _needed()
    for image in sorted(p for p in store.glob(pattern) if (p / "manifest.json").exists()):
        with lock.free(lock_of(image)) as free:
            if free and not needed(image):
                yield Finding("image", image.name, (f"directory {image}",), sparse.used(image), _image(image))


def _needed() -> Callable[[Path], bool]:
    """Whether a lab or snapshot of this home, or a running machine of any home, needs an image at this moment."""
    recorded: set[Path] = set()
    for name in names():
        lab = Lab.load(name)  # unless every lab's needs are known, no image is safe to remove
        facts = [lab.meta, *(snapshot.facts for snapshot in snaps.snapshots(lab))]
        recorded |= {Path(layer).resolve() for fact in facts for layer in fact["image"]}
        specs = [lab.spec, *(snapshot.spec for snapshot in snaps.snapshots(lab))]
        recorded |= {(paths.images() / source.layer).resolve() for spec in specs for source in spec.sources.values()}
    mounted = {path.resolve() for path in overlay.lower()}

    def needed(image: Path) -> bool:
        place = image.resolve()
        return place in recorded or any(m.is_relative_to(place) for m in mounted)

    return needed


def _image(image: Path) -> Callable[[], list[str]]:
    def remove() -> list[str]:
        path = lock_of(image)
        with lock.tried(path) as free:
            # a lab may have come up on it since it was found
            if not free or not image.exists() or _needed()(image):
                return []
            # renamed first: a half-removed image must never pass for a complete one
            work = image.with_name(f"{BUILDING}{image.name}")
            files.move(image, work)
            left = files.remove(work)
            files.discard(path)
            return left

    return remove
