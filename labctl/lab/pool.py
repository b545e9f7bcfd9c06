"""A class's labs: clones of one snapshot, named NAME-01, NAME-02 and so on.

A pool has no file of its own: which labs are its, and from which snapshot, is in their records. So a command that was
killed goes on when it is repeated, and a lab that was removed by itself is made again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from labctl.engine.capacity import check_copies
from labctl.engine.health import gate
from labctl.errors import LabError, RefusedError
from labctl.host import cgroup, memory, paths
from labctl.host.threads import results, side_by_side
from labctl.lab import clone, fault
from labctl.lab import down as teardown
from labctl.lab import snapshot as snaps
from labctl.lab.condition import condition
from labctl.lab.repair import repair
from labctl.progress import note, part, step
from labctl.records import lease
from labctl.records.directory import REMOVED, exists, half_removed, names
from labctl.records.lab import POOL, Lab, locked
from labctl.topology.model import NAME, Frozen
from labctl.topology.units import show_size

#: Labs of a pool at most: their numbers have three digits.
LARGEST = 999


class Place(Frozen):
    """A lab's place in a pool, in its record.

    ``source`` is LAB/SNAPSHOT, ``taken`` when that snapshot was, in seconds since the epoch. ``start`` and ``reset``
    are how many seconds the last of these took until the lab was healthy; a lab without ``start`` is not finished.
    """

    name: str
    number: int
    source: str
    taken: float
    start: float | None = None
    reset: float | None = None

    @property
    def snapshot(self) -> str:
        """The name of the snapshot, which each clone has too."""
        return self.source.partition("/")[2]


@dataclass(frozen=True)
class Wanted:
    """A pool as somebody wants it.

    :param at_once: how many labs are worked on side by side.
    :param force: also if their nodes need more memory than is free.
    """

    name: str
    size: int
    terms: lease.Terms
    at_once: int
    force: bool = False


def place(lab: Lab) -> Place | None:
    """The lab's place in a pool; None for one that is in none, or of which labctl did not write it."""
    try:
        return Place.model_validate(lab.meta[POOL]) if lab.meta.get(POOL) else None
    except ValidationError:
        return None


def pools() -> dict[str, list[Lab]]:
    """Every pool of this home: its labs in the order of their numbers."""
    found: dict[str, list[tuple[int, Lab]]] = {}
    for lab in _recorded():
        if (mine := place(lab)) is not None:
            found.setdefault(mine.name, []).append((mine.number, lab))
    return {name: [lab for _, lab in sorted(labs, key=lambda each: each[0])] for name, labs in sorted(found.items())}


def _recorded() -> Iterator[Lab]:
    """The labs that can be read."""
    for name in names():
        try:
            yield Lab.load(name)
        except LabError:  # `labctl list` says so
            continue


def members(pool: str) -> list[Lab]:
    """The labs of a pool in the order of their numbers.

    :raises LabError: there is no such pool; lists the existing ones.
    """
    known = pools()
    if pool not in known:
        raise LabError(f"there is no pool '{pool}'; pools: {', '.join(known) or 'none'}", "labctl pool list")
    return known[pool]


def memory_of(lab: Lab) -> int | None:
    """Bytes of memory that the lab's processes use; None when they are not known, as those of virtual machines."""
    return memory.used(cgroup.processes(lab.name)) or None


# --- make ------------------------------------------------------------------------------------------


def make(source: Lab, snapshot: str, wanted: Wanted) -> list[Lab]:
    """Bring a pool to its size: labs that are missing are made, those with higher numbers are removed.

    The others keep what was done in them; they are started if they do not run. The caller holds the source's lock.

    :raises RefusedError: the pool is of another snapshot, a name is taken, or there is no room; nothing was touched.
    :raises LabError: some labs failed; repeating it goes on with those.
    """
    found, there = snaps.find(source, snapshot), pools().get(wanted.name, [])
    numbers = {mine.number: lab for lab in there if (mine := place(lab))}
    new = [number for number in range(1, wanted.size + 1) if number not in numbers]
    _check(source, found, wanted, there, new)
    with step("pool", f"verify the image of {source.name}"):
        source.driver.image(Lab(source.directory, found.spec, {**source.meta, **found.facts}))
    where, own = f"{source.name}/{snapshot}", lease.begun(wanted.terms, there[0] if there else None)

    def work(name: str) -> None:
        number = int(name.rpartition("-")[2])
        if number > wanted.size:
            _remove(name)
        elif number in numbers:
            _go_on(name, wanted.terms)
        else:
            mine = Place(name=wanted.name, number=number, source=where, taken=found.created)
            _create(source, found, name, {**own, POOL: mine.model_dump()})

    _on_each(work, [_label(wanted.name, number) for number in sorted({*numbers, *new})], wanted.at_once)
    return members(wanted.name)


def _label(pool: str, number: int) -> str:
    return f"{pool}-{number:02d}"


def _check(source: Lab, found: snaps.Snapshot, wanted: Wanted, there: Sequence[Lab], new: Sequence[int]) -> None:
    """Refuse what cannot become this pool.

    :raises RefusedError: says why, before anything is made.
    """
    name, where = wanted.name, f"{source.name}/{found.name}"
    longest = clone.MAX_NAME - len("-999")
    if not re.fullmatch(NAME, name) or len(name) > longest:
        raise RefusedError(
            f"{name!r} is not the name of a pool",
            f"use up to {longest} lower-case letters, digits and hyphens, beginning with a letter",
        )
    for mine in filter(None, map(place, there)):
        if (mine.source, mine.taken) != (where, found.created):
            since = " as it was before it was taken anew" if mine.source == where else ""
            raise RefusedError(
                f"the pool {name} is made of {mine.source}{since}, not of {where}",
                f"labctl pool down {wanted.name}, or --name with another name",
            )
    if taken := [label for number in new if exists(label := _label(name, number))]:
        raise RefusedError(
            f"labs that are not of the pool {name} have names of it: {', '.join(taken)}",
            "labctl list shows them; --name gives the pool another name",
        )
    try:
        check_copies(found.spec, len(new), source.directory, declared=not wanted.force)
    except LabError as error:
        more = "" if wanted.force else "; --force makes as many as really fit"
        raise RefusedError(error.message, error.hint + more) from error


def _create(source: Lab, found: snaps.Snapshot, name: str, own: dict[str, object]) -> None:
    with _working("make", name):
        if (paths.labs() / name).exists():  # what a killed labctl left, which has no record
            teardown.down(name)
        if memory.available() < memory.RESERVE:
            raise LabError(
                f"no more labs were made: less than {show_size(memory.RESERVE)} of memory is left",
                "labctl list shows the labs; labctl down NAME frees a lab's memory",
            )
        began = time.monotonic()
        lab = clone.branch_off(source, found, name, own)
        snaps.wake(lab)
        gate(lab)
        _record(lab, start=time.monotonic() - began)


def _go_on(name: str, terms: lease.Terms) -> None:
    """Finish what was killed, start what died, apply the terms."""
    if not terms and _goes(Lab.load(name)):  # somebody may be working with it, and hold its lock
        return
    with _working("go on with", name):
        began, lab = time.monotonic(), Lab.load(name)
        lease.renew(lab, terms)
        if not _goes(lab):
            repair(lab, verified=True)
            _record(lab, start=time.monotonic() - began)


def _goes(lab: Lab) -> bool:
    """True for a finished lab whose machines run, or do not because of a fault."""
    mine = place(lab)
    return (mine is None or mine.start is not None) and (not condition(lab)[1] or bool(fault.active(lab)))


def _record(lab: Lab, **seconds: float) -> None:
    if mine := place(lab):
        lab.meta[POOL] = mine.model_copy(update={key: round(value, 2) for key, value in seconds.items()}).model_dump()
        lab.save()


# --- reset -----------------------------------------------------------------------------------------


def reset(pool: str, chosen: Iterable[str], at_once: int) -> list[Lab]:
    """Return labs of a pool to its snapshot: what was done in them since is lost.

    :param chosen: names of labs; none for all.
    :raises LabError: one of them is not of the pool, and nothing was touched; or some failed, and the others are done.
    """
    labs = {lab.name: lab for lab in members(pool)}
    wanted = list(dict.fromkeys(chosen)) or list(labs)
    if strange := [each for each in wanted if each not in labs]:
        raise LabError(f"not of the pool {pool}: {', '.join(strange)}", f"labctl pool list {pool}")
    with step("pool", f"verify the image of {pool}"):
        for lab in {labs[each].layers: labs[each] for each in wanted}.values():
            lab.driver.image(lab)
    _on_each(_reset, wanted, at_once)
    return [lab for lab in members(pool) if lab.name in wanted]


def _reset(name: str) -> None:
    with _working("reset", name):
        began, lab = time.monotonic(), Lab.load(name)
        if (mine := place(lab)) is None:
            raise LabError(f"{name} left its pool meanwhile", f"labctl status {name}")
        if mine.snapshot not in lab.meta["snapshots"]:
            raise LabError(
                f"{name} has no snapshot '{mine.snapshot}' any more",
                f"labctl down {name}; the command that made the pool makes it anew",
            )
        snaps.revert(lab, mine.snapshot)
        _record(lab, reset=time.monotonic() - began)


# --- down ------------------------------------------------------------------------------------------


def down(name: str, at_once: int) -> list[str]:
    """Remove a pool's labs, also those that are half made or half removed; returns their names.

    :raises LabError: something could not be removed; repeating it goes on.
    """
    labs = [*(lab.name for lab in pools().get(name, [])), *_remnants(name)]
    _on_each(_remove, labs, at_once)
    return labs


def _remnants(name: str) -> Iterator[str]:
    """Labs of a pool that were being made or removed by a labctl that was killed."""
    root = paths.labs()
    for directory in sorted(root.iterdir()) if root.is_dir() else ():
        lab = directory.name
        if half_removed(lab):
            if (mine := _removed(lab)) and mine.name == name:
                yield lab
        elif not exists(lab) and re.fullmatch(rf"{re.escape(name)}-\d{{2,3}}", lab):
            yield lab


def _removed(name: str) -> Place | None:
    try:
        return place(Lab.load(name, REMOVED))
    except LabError:
        return None


def _remove(name: str) -> None:
    with _working("remove", name):
        teardown.down(name)


# --- side by side ----------------------------------------------------------------------------------


@contextmanager
def _working(verb: str, name: str) -> Iterator[None]:
    """One lab's part of the work, with its lock."""
    with step(name, verb), part(name), locked(name, f"labctl pool: {verb} {name}"):
        yield


def _on_each(work: Callable[[str], None], labs: Sequence[str], at_once: int) -> None:
    """Work on labs side by side, each to its end whatever becomes of the others.

    :raises LabError: it failed for some of them.
    """
    waiting = side_by_side(work, labs, at_once)
    try:
        results(waiting)
    except LabError:
        failed = sum(future.exception() is not None for future in waiting)
        note("pool", f"{len(labs) - failed} of {len(labs)} labs are done; the same command goes on with the others")
        raise
