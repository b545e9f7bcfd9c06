"""Load ``nightly.yaml``: turn the file into cells, or report every problem with its place.

A cell is one combination of topology, release, base and driver. Its name has only what the file specifies
(``zed-2node``, ``zed-2node/victoria``), so it stays the same when the machine's own choice changes. A valid
combination that this machine cannot run is an impossible cell, with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import product
from operator import eq
from pathlib import Path

from pydantic import ValidationError

from labctl import bases, releases, shipped
from labctl.drivers import DRIVERS
from labctl.errors import LabError
from labctl.lab.choose import choose, has_datapath
from labctl.nightly.model import Entry, Excluded, Nightly, Settings, Tests, Timeouts
from labctl.releases import RELEASES
from labctl.services import SERVICES
from labctl.topology import load as topologies
from labctl.topology.document import read
from labctl.topology.explain import explain, is_said
from labctl.topology.found import refuse_others
from labctl.topology.given import STDIN, contents
from labctl.topology.problems import Positions, Problem, TopologyError, unknown
from labctl.topology.spec import LabSpec
from labctl.upgrade import chain

FILE = "nightly.yaml"
#: Retries of a cell when neither the entry nor the file sets them.
DEFAULT_RETRIES = 1


PROJECTS = tuple(service.name for service in SERVICES)


@dataclass(frozen=True)
class Cell:
    """One combination to test: what was requested, and what it resolves to on this machine.

    ``memory`` is in bytes, of all its nodes; timeouts are in seconds. ``impossible`` is why this machine cannot
    run it, empty when it can.
    """

    name: str
    topology: str
    release: str | None = None
    base: str | None = None
    driver: str | None = None
    timeouts: dict[str, int] = field(default_factory=lambda: Timeouts().model_dump())
    retries: int = DEFAULT_RETRIES
    select: tuple[str, ...] = ()
    keyword: str = ""
    smoke: bool = False
    workers: int = 4
    keep_on_failure: bool = False
    join: bool = False
    upgrade: tuple[str, ...] = ()
    #: project -> REPOSITORY@REF
    sources: dict[str, str] = field(default_factory=dict)
    memory: int = 0
    nodes: int = 0
    impossible: str = ""
    chosen: dict[str, str] = field(default_factory=dict)

    def up(self, name: str) -> list[str]:
        """The labctl arguments that bring up the cell's lab."""
        options = {"release": self.release, "base": self.base, "driver": self.driver, "name": name}
        sources = [word for project, where in self.sources.items() for word in ("--source", f"{project}={where}")]
        return ["up", self.topology, *(word for k, v in options.items() if v for word in (f"--{k}", v)), *sources]

    def hops(self, name: str, last: str = "") -> dict[str, list[str]]:
        """Step -> the labctl arguments that bring the lab to the next of its releases.

        :param last: only up to this step; empty or another one: all.
        """
        made: dict[str, list[str]] = {}
        for release in self.upgrade:
            step = f"upgrade-{release}"
            made[step] = ["upgrade", name, "--to", self.upgrade[-1], "--until", release]
            if step == last:
                break
        return made

    def test(self, name: str, *arguments: str) -> list[str]:
        """The labctl arguments that test it."""
        chosen = [str(shipped("e2e") / s.removeprefix("e2e/")) for s in self.select]
        keyword = ["-k", self.keyword] if self.keyword else []
        smoke = ["--smoke"] if self.smoke else []
        return ["test", name, "-n", str(self.workers), *smoke, *arguments, "--", *chosen, *keyword]

    def lab(self, run: int) -> str:
        """Name of the lab in a run: short, and unlike any name that a person would choose.

        :param run: 0 for a job of a CI system, which no night of this machine's own history is.
        """
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:6]
        stem = "".join(c for c in Path(self.topology).stem.lower() if c.isalnum() or c == "-")[:18].strip("-")
        return f"{lab_prefix(run)}-{stem}-{digest}"

    def to_json(self) -> str:
        """The cell as the history stores it."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """A cell of the history."""
        values = json.loads(text)
        timeouts = Timeouts().model_dump() | values["timeouts"]
        tuples = {name: tuple(values.get(name, ())) for name in ("select", "upgrade")}
        return cls(**{**values, **tuples, "timeouts": timeouts})


def lab_prefix(run: int) -> str:
    """What the names of a run's labs begin with."""
    return f"night{run}"


@dataclass(frozen=True)
class Matrix:
    """A file and its cells."""

    path: Path
    settings: Nightly
    cells: tuple[Cell, ...]

    def only(self, words: Sequence[str], exact: Sequence[str] = ()) -> tuple[Cell, ...]:
        """The cells of these names or patterns (``zed-*``), in the file's order; all when none is given.

        :param exact: names that are no patterns, in place of words.
        :raises LabError: a word matches no cell; suggests similar names.
        """
        return chosen(self.cells, exact, eq) if exact else chosen(self.cells, words)


def chosen(
    cells: Sequence[Cell], words: Sequence[str], fits: Callable[[str, str], bool] = fnmatchcase
) -> tuple[Cell, ...]:
    """See :meth:`Matrix.only`."""
    known = [cell.name for cell in cells]
    for word in words:
        if not any(fits(name, word) for name in known):
            close = get_close_matches(word, known, n=3, cutoff=0.5)
            guess = f"did you mean {' or '.join(close)}? " if close else ""
            raise LabError(f"there is no cell '{word}'; {guess}cells: {', '.join(known)}", "labctl nightly cells")
    return tuple(c for c in cells if not words or any(fits(c.name, word) for word in words))


def find(given: Path | None) -> Path:
    """The file to use: the one given, ``./nightly.yaml``, or the project's own.

    :raises LabError: there is no file, or others could have written the one in this directory.
    """
    if given == Path("-"):
        return STDIN
    if given is not None:
        if not topologies.there(given):
            raise LabError(f"there is no file {given}", "labctl nightly run --file FILE")
        return given
    for path in (Path(FILE), shipped(FILE)):
        if path.is_file():
            if path.resolve() != shipped(FILE):
                refuse_others(path, f"--file {FILE}")
            return path
    raise LabError(f"there is no {FILE} in this directory", "write one (docs/nightly.md), or give --file FILE")


def load(path: Path) -> Matrix:
    """Read a file and check whether this machine can run each cell.

    :raises TopologyError: with every problem of the file.
    """
    document = read(contents(path), str(path), "nightly file", ("matrix", "timeouts", "notify"))
    problems = list(document.problems)
    settings: Nightly | None = None
    try:
        settings = Nightly.model_validate_json(json.dumps(document.values), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems += dict.fromkeys(explain(e, document, Nightly) for e in found if not is_said(e, document))
    cells: list[Cell] = []
    if settings is not None:
        problems += _check(settings, document.positions, path.parent)
        if not problems:
            cells = [cell for entry in settings.matrix for cell in _cells(entry, settings, path.parent)]
            problems += _twice(settings, document.positions)
    if problems or settings is None:
        raise TopologyError(problems)
    return Matrix(path, settings, tuple(cells))


# --- rules -----------------------------------------------------------------------------------------


def _check(settings: Nightly, at: Positions, folder: Path) -> Iterator[Problem]:
    """Unknown words, duplicates, and exclusions and selections that match nothing."""
    known = {
        "releases": ("release", tuple(RELEASES)),
        "bases": ("base", tuple(bases.TITLES)),
        "drivers": ("driver", tuple(DRIVERS)),
    }
    yield from _selection(settings, at, ())
    for number, entry in enumerate(settings.matrix):
        here = ("matrix", number)
        try:
            _file(entry, folder)
        except LabError as error:
            yield at.problem((*here, "topology"), error.message)
        for key, (word, names) in known.items():
            given: tuple[str, ...] = getattr(entry, key)
            for i, value in enumerate(given):
                if value not in names:
                    yield at.problem((*here, key, i), unknown(word, value, names))
                elif value in given[:i]:
                    yield at.problem((*here, key, i), f"{value} is named twice")
        for i, value in enumerate(entry.upgrade):
            if releases.named(value) not in releases.EVERY:
                yield at.problem((*here, "upgrade", i), unknown("release", value, releases.EVERY))
        for project in entry.sources:
            if project not in PROJECTS:
                yield at.problem((*here, "sources", project), unknown("project", project, PROJECTS), key=True)
        yield from _selection(entry, at, here)
        for i, excluded in enumerate(entry.exclude):
            if not any(_fits(excluded, *c) for c in _combinations(entry)):
                yield at.problem((*here, "exclude", i), "this matches no combination of the entry")
        if entry.exclude and all(any(_fits(e, *c) for e in entry.exclude) for c in _combinations(entry)):
            yield at.problem((*here, "exclude"), "this excludes every combination of the entry")


def _selection(settings: Settings, at: Positions, here: tuple[str | int, ...]) -> Iterator[Problem]:
    for i, selected in enumerate(settings.tests.select if settings.tests else ()):
        file = selected.removeprefix("e2e/").partition("::")[0]
        known = sorted(p.name for p in shipped("e2e").glob("test_*.py"))
        if file not in known:
            yield at.problem((*here, "tests", "select", i), unknown("file of the suite", file, known))


def _twice(settings: Nightly, at: Positions) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, name in _named(settings):
        if seen.setdefault(name, number) != number:
            yield at.problem(("matrix", number), f"the cell {name} is already in entry {seen[name] + 1}")


# --- cells -----------------------------------------------------------------------------------------


def names(settings: Nightly) -> list[str]:
    """The names of a file's cells, in its order."""
    return [name for _, name in _named(settings)]


def _named(settings: Nightly) -> Iterator[tuple[int, str]]:
    for number, entry in enumerate(settings.matrix):
        for combination in _wanted(entry):
            yield number, _name(entry, *combination)


def _file(entry: Entry, folder: Path) -> Path:
    beside = folder / entry.topology
    return beside if topologies.there(beside) else topologies.find(entry.topology)


def _combinations(entry: Entry) -> Iterator[tuple[str | None, str | None, str | None]]:
    yield from product(entry.releases or (None,), entry.bases or (None,), entry.drivers or (None,))


def _wanted(entry: Entry) -> Iterator[tuple[str | None, str | None, str | None]]:
    for combination in _combinations(entry):
        if not any(_fits(excluded, *combination) for excluded in entry.exclude):
            yield combination


def _fits(excluded: Excluded, release: str | None, base: str | None, driver: str | None) -> bool:
    pairs = ((excluded.release, release), (excluded.base, base), (excluded.driver, driver))
    return all(wanted is None or wanted == value for wanted, value in pairs)


def _name(entry: Entry, *combination: str | None) -> str:
    way = f"upgrade-{releases.named(entry.upgrade[-1])}" if entry.upgrade else None
    own = "+".join(f"{project}-{followed.ref.replace('/', '-')}" for project, followed in entry.sources.items())
    return "/".join([Path(entry.topology).stem, *(part for part in (*combination, way, own) if part)])


def _cells(entry: Entry, settings: Nightly, folder: Path) -> Iterator[Cell]:
    path = _file(entry, folder)
    own = path.resolve().parent == shipped("topologies")
    timeouts = (entry.timeouts or settings.timeouts or Timeouts()).model_dump()
    tests = entry.tests or settings.tests or Tests()
    retries = next((r for r in (entry.retries, settings.retries) if r is not None), DEFAULT_RETRIES)
    keep = next((k for k in (entry.keep_on_failure, settings.keep_on_failure) if k is not None), False)
    for release, base, driver in _wanted(entry):
        cell = Cell(
            name=_name(entry, release, base, driver),
            topology=path.stem if own else str(path.resolve()),
            release=release,
            base=base,
            driver=driver,
            timeouts=timeouts,
            retries=retries,
            select=tests.select,
            keyword=tests.keyword,
            smoke=tests.smoke,
            workers=tests.workers,
            keep_on_failure=keep,
            join=entry.join,
            upgrade=tuple(releases.named(word) for word in entry.upgrade),
            sources={project: f"{_git(one.git, folder)}@{one.ref}" for project, one in entry.sources.items()},
        )
        yield looked_at(cell)


def _git(given: str, folder: Path) -> str:
    """A repository; a directory is relative to the file."""
    return str((folder / given).resolve()) if (folder / given).is_dir() else given


def looked_at(cell: Cell) -> Cell:
    """The cell with what it resolves to on this machine now, or why it is impossible."""
    try:
        spec = specify(cell)
        for release in cell.upgrade:
            chain.plan(spec, cell.upgrade[-1], release, kernel=has_datapath(spec))
    except LabError as error:
        return replace(cell, impossible=error.message, chosen={}, memory=0, nodes=0)
    nodes = [*spec.nodes.values(), *(spec.later.values() if cell.join else ())]
    what = {"release": spec.release, "base": spec.base, "driver": spec.driver, "packages": spec.package_source}
    return replace(cell, impossible="", chosen=what, memory=sum(n.memory for n in nodes), nodes=len(nodes))


def specify(cell: Cell) -> LabSpec:
    """The spec of a cell's lab, as ``labctl up`` would make it.

    :raises LabError: the topology has problems, or the combination is impossible here.
    """
    topology, _ = topologies.named(cell.topology, cell.release)
    return choose(topology, base=cell.base, driver=cell.driver).spec
