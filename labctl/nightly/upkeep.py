"""The end of a run: call the notify hook and prune old runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import LabError
from labctl.host import files, process, sparse
from labctl.nightly import analysis
from labctl.nightly.history import History
from labctl.nightly.model import Notify, NotifyOn, Retention
from labctl.nightly.run import artefacts
from labctl.nightly.steps import Steps
from labctl.progress import step, warn
from labctl.records.directory import exists
from labctl.testing.junit import first_line

#: Seconds for the removal of a kept lab.
DOWN = 600


# --- telling ---------------------------------------------------------------------------------------


def summary(history: History, run: int, report: Path) -> dict[str, Any]:
    """A run as the hook gets it: each cell with its outcome, its state and since which run."""
    cells = []
    for found in analysis.standings(history, run):
        cells.append(
            {
                "cell": found.cell,
                "outcome": found.row["outcome"],
                "standing": found.kind.value,
                "bad_stage": found.row["bad_stage"],
                "since_run": found.first_bad["run"] if found.first_bad and found.bad else None,
                "last_good_run": found.last_good["run"] if found.last_good else None,
                "changed": found.changed,
                "message": first_line(found.row["message"]),
            }
        )
    row = history.run(run)
    return {
        "run": run,
        "began": row["began"],
        "ended": row["ended"],
        "commit": row["git_commit"],
        "good": not any(_is_bad(c) for c in cells),
        "report": str(report),
        "cells": cells,
    }


def _is_bad(cell: dict[str, Any]) -> bool:
    return cell["outcome"] not in ("passed", "flaky")


def notify(history: History, run: int, hook: Notify | None, report: Path) -> bool:
    """Call the hook when the run matches its ``on`` setting; return True when it was called.

    :raises LabError: it failed or timed out; shows its output.
    """
    if hook is None:
        return False
    told = summary(history, run, report)
    wanted = {
        NotifyOn.ALWAYS: True,
        NotifyOn.FAILURE: not told["good"],
        NotifyOn.CHANGE: any(cell["changed"] for cell in told["cells"]),
    }
    if not wanted[hook.on]:
        return False
    env = {
        **os.environ,
        "LABCTL_NIGHTLY_RUN": str(run),
        "LABCTL_NIGHTLY_STATE": "good" if told["good"] else "bad",
        "LABCTL_NIGHTLY_REPORT": str(report),
    }
    with step("night", f"notify {hook.command[0]}"):
        process.run(hook.command, timeout=hook.timeout, stdin=json.dumps(told, indent=1), env=env)
    return True


# --- removing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Old:
    """Something that can be pruned: ``artefacts`` of a run, or the ``lab`` of a failure. ``size`` in bytes on disk."""

    kind: str
    name: str
    run: int
    size: int


def old(history: History, retention: Retention) -> list[Old]:
    """What exceeds the retention. Outcomes, times and tests of every run stay in the history."""
    found = []
    beyond = "SELECT id FROM runs WHERE ended IS NOT NULL ORDER BY id DESC LIMIT -1 OFFSET ?"
    for row in history.rows(beyond, [retention.runs]):
        where = artefacts(history, row["id"])
        if where.is_dir():
            found.append(Old("artefacts", where.name, row["id"], sparse.used(where)))
    kept = history.rows("SELECT run, lab FROM cells WHERE kept = 1 ORDER BY run DESC, id DESC")
    there = [row for row in kept if exists(row["lab"])]
    found += [Old("lab", row["lab"], row["run"], 0) for row in there[retention.labs :]]
    return found


def prune(history: History, found: list[Old], steps: Steps | None = None) -> list[str]:
    """Remove what :func:`old` found; return what could not be removed."""
    steps, left = steps or Steps(lambda: False), []
    for item in found:
        with step("night", f"remove {item.kind} {item.name}"):
            if item.kind == "lab":
                log = artefacts(history, item.run) / "prune.log"
                if steps.run(["down", item.name], log, DOWN).good:
                    _forget(history, item.name)
                else:
                    left.append(f"lab {item.name} (labctl down {item.name})")
                continue
            where = artefacts(history, item.run)
            if why := files.remove(where, within=where.parent):
                left += [f"directory {item}" for item in why]
            else:
                history.mark_pruned(item.run)
    return left


def _forget(history: History, name: str) -> None:
    for row in history.rows("SELECT id FROM cells WHERE lab = ?", [name]):
        history.update_cell(row["id"], kept=0)


def tidy(history: History, retention: Retention, steps: Steps | None = None) -> None:
    """Prune at the end of a run; warn of what could not be removed, which stays for the next run."""
    try:
        left = prune(history, old(history, retention), steps)
    except OSError as error:
        raise LabError(f"old runs cannot be removed: {error}", "labctl nightly prune") from error
    if left:
        warn("night", f"could not remove {', '.join(left)}")
