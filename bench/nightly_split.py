"""A night in jobs is the same night: run a matrix whole, then one cell a job, merge the jobs, compare.

    python bench/nightly_split.py [--file bench/nightly_split.yaml] [--keep DIRECTORY]

Every cell runs twice, on real labs. The whole night is a run of the home's history; the jobs are merged into a new
home, and `labctl nightly show -o json` and the pages of both are compared, without times and numbers of runs.
Prints the seconds of both; status 1 when a cell is not good or something differs.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Of a run and its cells: what is never twice the same.
OWN = ("id", "run", "began", "ended", "memory")
LABCTL = (sys.executable, "-m", "labctl")
#: Times, sizes and numbers of runs, as pages and logs write them.
TIMES = (
    (r'<svg [^>]*class="chart".*?</svg>', "CHART"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN"),
    (r'(<td class="n">|"t">)[\d.]+', r"\1TIME"),
    (r"\b[\d.]+ ?(min|s|seconds)\b", r"TIME \1"),
    (r"night\d+-", "night-"),
    (r'href="[^"]*/runs/', 'href="runs/'),
    (r"\b([Rr]uns?[ /-])0*\d+", r"\1N"),
    (r'(<th scope="col" class="n">)\d+', r"\1N"),
    (r'(<tr><td>(<a [^>]*>)?)\d+', r"\1N"),
)  # fmt: skip


def told(shown: Mapping[str, Any] | Sequence[Any] | str | float | None) -> Any:
    """What ``nightly show -o json`` says of a run, without its own times and numbers."""
    if isinstance(shown, Mapping):
        return {key: told(value) for key, value in shown.items() if key not in OWN}
    if isinstance(shown, list):
        return [told(value) for value in shown]
    return re.sub(r"night\d+-", "night-", shown) if isinstance(shown, str) else shown


def page(text: str, roots: Sequence[Path]) -> list[str]:
    """The lines of a page, without times and numbers of runs.

    :param roots: directories that stand for each other.
    """
    for root in sorted(map(str, roots), key=len, reverse=True):
        text = text.replace(root, "ROOT")
    for pattern, word in TIMES:
        text = re.sub(pattern, word, text, flags=re.DOTALL)
    return text.replace("><", ">\n<").splitlines()


def different(whole: Path, merged: Path, roots: Sequence[Path]) -> list[str]:
    """The lines in which two pages differ."""
    old, new = (page(path.read_text(), roots) for path in (whole, merged))
    return list(difflib.unified_diff(old, new, str(whole), str(merged), lineterm="", n=0))


def labctl(*words: str, home: Path | None = None) -> tuple[int, str]:
    """Run labctl; its status and its output. Messages go to this program's own."""
    environment = {**os.environ, **({"LABCTL_HOME": str(home)} if home else {})}
    done = subprocess.run([*LABCTL, *words], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def main() -> int:
    """Run both, compare, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--file", type=Path, default=Path(__file__).with_suffix(".yaml"))
    options.add_argument("--keep", type=Path, help="write the artefacts and the merged history here, and leave them")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return compare(given.file, given.keep or Path(folder))


def compare(file: Path, place: Path) -> int:
    """Run both and compare; the status."""
    matrix = ("--file", str(file))
    listed = place / "cells.json"
    place.mkdir(parents=True, exist_ok=True)
    listed.write_text(labctl("nightly", "cells", *matrix, "-o", "json")[1])
    names = [row["cell"] for row in json.loads(listed.read_text())]

    began = time.monotonic()
    statuses = [labctl("nightly", "run", *matrix, "--jobs", "1")[0]]
    print(f"whole night of {len(names)} cells: {time.monotonic() - began:.0f} s, status {statuses[0]}", flush=True)
    whole = json.loads(labctl("nightly", "show", "-o", "json")[1])
    pages = place / "whole"
    labctl("nightly", "report", str(pages), "-n", "1")

    for number, name in enumerate(names, 1):
        began = time.monotonic()
        words = ("nightly", "run", *matrix, "--cell", name, "--artefact", str(place / "nights" / str(number)))
        statuses.append(labctl(*words)[0])
        print(f"job {number}, {name}: {time.monotonic() - began:.0f} s, status {statuses[-1]}", flush=True)

    began = time.monotonic()
    home = place / "home"
    statuses.append(labctl("nightly", "merge", str(place / "nights"), "--expected", str(listed), home=home)[0])
    print(f"merge: {time.monotonic() - began:.1f} s, status {statuses[-1]}", flush=True)
    merged = json.loads(labctl("nightly", "show", "-o", "json", home=home)[1])
    shown = [json.dumps(told(run), indent=1).splitlines() for run in (whole, merged)]
    found = list(difflib.unified_diff(*shown, "show of the whole", "show of the merged", lineterm="", n=0))
    roots = [place / "home" / "nightly", *(place / "nights" / str(n) for n in range(1, len(names) + 1))]
    last = f"run-{whole['id']:04}.html"
    found += different(pages / last, home / "nightly" / "report" / "run-0001.html", roots)
    print("\n".join(found) or "no differences")
    return 1 if found or any(statuses) else 0


if __name__ == "__main__":
    sys.exit(main())
