"""How long the report of a long history takes: 1,000 runs of four cells, 46 tests each.

    python bench/nightly_report.py [--runs 1000] [--keep DIRECTORY]

Prints the seconds of making the history (not part of the figure) and of writing the report, and the ratio of
the latter to the 2 s it may take; status 1 when it takes longer.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from labctl.nightly.history import History
from labctl.nightly.matrix import Cell
from labctl.nightly.report import write

ALLOWED = 2.0  # seconds
CELLS = ("zed-2node", "train-2node", "ussuri-6node", "rocky-2node")
STAGES = ("machines", "prepare", "packages", "infrastructure", "keystone", "catalog", "configure", "databases")
MODULES = ("compute", "network", "image", "identity", "volume", "object", "orchestration")
TESTS = [f"e2e/test_{MODULES[n % len(MODULES)]}.py::test_case_{n}" for n in range(46)]
DAY = 86400


def fill(history: History, runs: int, seed: int = 7) -> None:
    """Write so many nights: mostly good, some flakes, a stage that became slower, and a regression at the end."""
    dice = random.Random(seed)
    start = time.time() - runs * DAY
    with history.writing():
        history._db.executemany("INSERT OR IGNORE INTO test_names (name) VALUES (?)", [[t] for t in TESTS])
        for night in range(runs):
            _night(history, night, runs, start + night * DAY, dice)


def _night(history: History, night: int, runs: int, began: float, dice: random.Random) -> None:
    commit = f"{night // 3:040x}"
    host = '{"cores": 2, "kernel": "6.1.0"}'
    facts = {"began": began, "ended": began + 3000, "git_commit": commit, "host": host, "version": "0.1.0"}
    run = history._insert("runs", kind="nightly", **facts)
    for position, name in enumerate(CELLS):
        broken = name == "train-2node" and night >= runs - 3
        flaky = dice.random() < 0.03
        outcome = "failed" if broken else "flaky" if flaky else "passed"
        definition = Cell(name=name, topology=name)
        message = "keystone: bootstrap ended with 1:\nAccess denied <for user>" if broken else ""
        cell = history._insert(
            "cells", run=run, name=name, definition=definition.to_json(), lab=definition.lab(run), state="done",
            outcome=outcome, bad_stage="keystone" if broken else "", message=message,
            began=began + position, ended=began + 900 + dice.gauss(60, 5),
        )  # fmt: skip
        for number in (1, 2) if flaky and not broken else (1,):
            failed = broken or (flaky and number == 1)
            attempt = history._insert(
                "attempts", cell=cell, number=number, began=began, ended=began + 900, git_commit=commit,
                outcome="failed" if failed else "passed", inputs=commit[-8:], message=message,
            )  # fmt: skip
            _measured(history, attempt, night, runs, broken, failed, dice)


def _measured(
    history: History, attempt: int, night: int, runs: int, broken: bool, failed: bool, dice: random.Random
) -> None:
    rows = []
    for position, stage in enumerate(STAGES[:4] if broken else STAGES):
        slow = 1.6 if stage == "infrastructure" and night > runs - 20 else 1.0
        seconds = dice.gauss(15 + 2 * position, 1) * slow
        rows.append([attempt, f"up/{stage}", position, "passed", seconds, seconds / 2])
    if broken:
        rows.append([attempt, "up/keystone", 4, "failed", 12.0, 3.0])
    else:
        rows += [
            [attempt, s, 20 + i, "passed", dice.gauss(t, 6), t] for i, (s, t) in enumerate((("up", 170), ("test", 600)))
        ]
    history._db.executemany("INSERT INTO stages VALUES (?, ?, ?, ?, ?, ?)", rows)
    if broken:
        found = {"attempt": attempt, "place": "controller", "what": "apache2.service", "last": "failed: exit-code"}
        history._insert("findings", **found)
        return
    history._db.executemany(
        "INSERT INTO tests SELECT ?, id, ?, ?, ? FROM test_names WHERE name = ?",
        [
            [
                attempt,
                "failed" if failed and n == 3 else "passed",
                dice.gauss(9, 2),
                "E  late" if failed and n == 3 else "",
                t,
            ]
            for n, t in enumerate(TESTS)
        ],
    )


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--keep", type=Path, help="write the history and the report here, and leave them")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = given.keep or Path(folder)
        began = time.perf_counter()
        with History(where / "history.sqlite") as history:
            fill(history, given.runs)
            made = time.perf_counter()
            first = write(history, where / "report")
            written = time.perf_counter()
        pages = list((where / "report").glob("*.html"))
        size = sum(p.stat().st_size for p in pages) / 2**20
    took = written - made
    print(f"history of {given.runs} runs made in {made - began:.2f} s")
    print(f"report of {given.runs} runs: {took:.2f} s, {len(pages)} pages, {size:.1f} MiB")
    print(f"ratio to the {ALLOWED:g} s it may take: {took / ALLOWED:.2f}")
    if given.keep:
        print(first)
    return 0 if took <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
