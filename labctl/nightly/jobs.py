"""Cells as jobs of a CI system: packed to about equal times, written as GitHub and GitLab read them."""

from __future__ import annotations

import heapq
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import LabError
from labctl.nightly import matrix as matrices
from labctl.nightly.matrix import Cell
from labctl.topology.given import contents

#: Seconds for a cell that never passed; the longest of labctl's own takes so long.
UNKNOWN = 900.0
#: Jobs of one matrix (https://docs.github.com/en/actions/reference/limits).
GITHUB = 256
#: Cells that the title of a job names.
NAMED = 2
#: Where GitLab's jobs keep the history that passes from night to night; below the project, as its cache wants it.
KEPT = "labctl-nights"


@dataclass(frozen=True)
class Job:
    """Cells that run one after another on one machine. ``seconds`` are expected."""

    number: str
    cells: tuple[str, ...]
    seconds: int

    @property
    def options(self) -> str:
        """The options of ``labctl nightly run`` that name its cells, quoted for a shell."""
        return shlex.join(word for cell in self.cells for word in ("--cell", cell))

    @property
    def title(self) -> str:
        """A name for people."""
        more = len(self.cells) - NAMED
        return ", ".join(self.cells[:NAMED]) + (f" and {more} more" if more > 0 else "")


def pack(cells: Sequence[Cell], seconds: Mapping[str, float], count: int) -> list[Job]:
    """Distribute cells over jobs of about equal times, the longest first.

    The longest cell goes where least is: at most a third over the best distribution (R. L. Graham, Bounds on
    Multiprocessing Timing Anomalies, 1969).

    :param seconds: cell -> how long it takes; :data:`UNKNOWN` for the others.
    :param count: jobs at most; there are never more than cells.
    """
    took = {cell.name: seconds.get(cell.name, UNKNOWN) for cell in cells}
    heap = [(0.0, number) for number in range(min(count, len(cells)))]
    packed: dict[int, list[str]] = {number: [] for _, number in heap}
    for name in sorted(took, key=lambda name: -took[name]):
        total, number = heapq.heappop(heap)
        packed[number].append(name)
        heapq.heappush(heap, (total + took[name], number))
    parts = [(tuple(name for name in took if name in names), sum(took[n] for n in names)) for names in packed.values()]
    parts.sort(key=lambda part: -part[1])
    width = len(str(len(parts)))
    return [Job(f"{number:0{width}}", names, round(total)) for number, (names, total) in enumerate(parts, 1)]


def most(count: int | None, cells: int, *, github: bool) -> int:
    """How many jobs there are to be.

    :raises LabError: more are wanted than GitHub runs.
    """
    if github and (count or 0) > GITHUB:
        raise LabError(f"GitHub runs at most {GITHUB} jobs of a matrix, not {count}", "labctl nightly cells -o github")
    return count or (min(cells, GITHUB) if github else cells)


def github(jobs: Iterable[Job]) -> str:
    """A matrix of GitHub Actions, for ``fromJSON``, in one line.

    Cells are in ``options`` as words for a shell.
    """
    rows = [
        {"job": job.number, "name": job.title, "cells": job.cells, "options": job.options, "seconds": job.seconds}
        for job in jobs
    ]
    return json.dumps({"include": rows}, separators=(",", ":"))


def gitlab(jobs: Iterable[Job], file: Path | None, only: Sequence[str]) -> str:
    """A child pipeline of GitLab: a job for each, and one that merges what they leave.

    :param file: the matrix, if one was named.
    :param only: names or patterns, if cells were chosen by them.
    """
    options = ["--file", str(file)] if file else []
    run = shlex.join(["labctl", "nightly", "run", *options])
    chosen = [word for name in only for word in ("--only", name)]
    cells = shlex.join(["labctl", "nightly", "cells", *options, *chosen, "-o", "json"])
    pipeline: dict[str, Any] = {"stages": ["night", "report"]}
    for job in jobs:
        place = f"nights/{job.number}"
        pipeline[f"night {job.number}: {job.title}"] = {
            "stage": "night",
            "script": [f"{run} {job.options} --artefact {place}"],
            "artifacts": {"when": "always", "paths": [place], "reports": {"junit": f"{place}/runs/*/junit.xml"}},
        }
    pipeline["report"] = {
        "stage": "report",
        "when": "always",
        "variables": {"LABCTL_HOME": f"$CI_PROJECT_DIR/{KEPT}"},
        "cache": {"key": KEPT, "paths": [f"{KEPT}/nightly"], "when": "always"},
        "script": [
            "mkdir -p nights",
            f"{cells} > cells.json",
            "labctl nightly merge nights --expected cells.json",
        ],
        "artifacts": {"when": "always", "paths": [f"{KEPT}/nightly/report", f"{KEPT}/nightly/runs"]},
    }
    return yaml.safe_dump(pipeline, sort_keys=False, width=1000)


def expected(path: Path) -> list[str]:
    """The names of the cells in a file: an output of ``labctl nightly cells``, or a nightly.yaml.

    :raises LabError: it is none of these.
    """
    try:
        found = yaml.safe_load(contents(path))
    except yaml.YAMLError as error:
        raise LabError(f"{path} has no cells: {error}", _MADE) from error
    if isinstance(found, dict) and "matrix" in found:
        return matrices.names(matrices.load(path).settings)
    try:
        names = [str(name) for name in _names(found)]
    except (KeyError, TypeError, AttributeError, ValueError):
        names = []
    if not names:
        raise LabError(f"{path} has no cells: it is no output of labctl nightly cells and no matrix", _MADE)
    return names


_MADE = "labctl nightly cells -o json"


def _names(found: Any) -> list[str]:
    if isinstance(found, list):
        return [row["cell"] for row in found]
    if "include" in found:
        return [name for row in found["include"] for name in row["cells"]]
    lines = [line for job in found.values() if isinstance(job, dict) for line in job.get("script", ())]
    pairs = [pair for line in lines for pair in pairwise(shlex.split(line))]
    return [word for option, word in pairs if option == "--cell"]
