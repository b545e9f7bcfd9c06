"""The verbs nightly list and nightly show: what the history has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from labctl.commands.console import Format, listing, out
from labctl.commands.options import MANY, Output
from labctl.errors import LabError
from labctl.nightly import matrix as matrices
from labctl.nightly.history import GOOD, History
from labctl.testing.junit import first_line


def summary(rows: list[dict[str, Any]]) -> str:
    """Cells by outcome: ``3 passed, 1 failed``."""
    outcomes = [row["outcome"] or row["state"] for row in rows]
    return ", ".join(f"{outcomes.count(o)} {o}" for o in dict.fromkeys(sorted(outcomes))) or "no cells"


def list_runs(
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=MANY, help="number of newest runs")] = 20,
    output: Output = Format.TABLE,
) -> None:
    """List the newest runs."""
    with History() as history:
        found = history.rows("SELECT * FROM runs ORDER BY id DESC LIMIT ?", [number])
        rows = []
        for run in found:
            done = history.cells(run["id"])
            bad = [c["name"] for c in done if c["outcome"] not in GOOD and c["state"] == "done"]
            rows.append(
                {
                    "run": run["id"],
                    "kind": run["kind"],
                    "began": _at(run["began"]),
                    "took": _took(run["began"], run["ended"]),
                    "state": "finished" if run["ended"] else "unfinished",
                    "cells": summary(done),
                    "not good": ", ".join(bad),
                    "commit": run["git_commit"][:12],
                    "began_at": run["began"],
                    "ended_at": run["ended"],
                    "version": run["version"],
                    "host": json.loads(run["host"]),
                }
            )
    listing(output, rows, ["run", "kind", "began", "took", "state", "cells", "not good", "commit"])


def show(
    number: Annotated[
        int | None, typer.Argument(metavar="[RUN]", min=1, max=MANY, help="a run; default: the newest")
    ] = None,
    cell: Annotated[str | None, typer.Argument(help="only this cell, in full")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a run: its cells with the first bad stage, and for one cell its stages, tests, findings and files."""
    with _run(number) as (history, run):
        rows = history.cells(run["id"])
        if cell is not None:
            names = [row["name"] for row in rows]
            if cell not in names:
                known = matrices.chosen([matrices.Cell(name=n, topology=n) for n in names], [cell])
                cell = known[0].name
            detail = _detail(history, next(row for row in rows if row["name"] == cell))
    if cell is not None:
        _print_detail(detail, output)
        return
    if output is Format.JSON:
        host, settings = json.loads(run["host"]), json.loads(run["settings"])
        shown = [{k: v for k, v in row.items() if k != "definition"} for row in rows]
        typer.echo(json.dumps({**run, "host": host, "settings": settings, "cells": shown}, indent=1))
        return
    state = _took(run["began"], run["ended"]) if run["ended"] else "unfinished; labctl nightly run --resume"
    out.print(f"run {run['id']} of {_at(run['began'])}: {state}, commit {run['git_commit'][:12] or 'unknown'}")
    print_cells(rows, output)


@contextmanager
def _run(number: int | None) -> Iterator[tuple[History, dict[str, Any]]]:
    with History() as history:
        if number is None:
            newest = history.rows("SELECT max(id) AS id FROM runs")[0]["id"]
            if newest is None:
                raise LabError("there are no runs yet", "labctl nightly run")
            number = int(newest)
        yield history, history.run(number)


def print_cells(rows: list[dict[str, Any]], output: Format) -> None:
    """Print the cells of a run: what each came to, and the labs that are kept."""
    shown = [
        {
            "cell": row["name"],
            "outcome": row["outcome"] or row["state"],
            "took": _took(row["began"], row["ended"]) if row["began"] else "",
            "first bad stage": row["bad_stage"],
            "message": first_line(row["message"])[:100],
            "diagnosis": row["diagnosis"][:100],
            "lab": row["lab"] if row["kept"] else "",
        }
        for row in rows
    ]
    listing(output, shown, ["cell", "outcome", "took", "first bad stage", "message", "diagnosis"])
    for row in shown:
        if row["lab"]:
            out.print(f"{row['cell']}: its lab is kept: labctl repair {row['lab']}; labctl down {row['lab']}")


def _detail(history: History, row: dict[str, Any]) -> dict[str, Any]:
    """Everything in the history about a cell of a run."""
    attempts = []
    for attempt in history.attempts(row["id"]):
        id_ = [attempt["id"]]
        tests = "SELECT n.name, t.outcome, t.seconds, t.message FROM tests t JOIN test_names n ON n.id = t.test"
        stages = "SELECT name, outcome, seconds, cpu_seconds FROM stages WHERE attempt = ? ORDER BY position"
        attempts.append(
            {
                **{k: v for k, v in attempt.items() if k not in ("cell", "process")},
                "images": json.loads(attempt["images"]),
                "stages": history.rows(stages, id_),
                "tests": history.rows(f"{tests} WHERE t.attempt = ? ORDER BY n.name", id_),
                "findings": history.rows("SELECT place, what, last FROM findings WHERE attempt = ?", id_),
                "artefacts": [
                    {**found, "path": str(history.path.parent / found["path"])}
                    for found in history.rows("SELECT kind, path FROM artefacts WHERE attempt = ?", id_)
                ],
            }
        )
    return {**row, "definition": json.loads(row["definition"]), "attempts": attempts}


def _print_detail(detail: dict[str, Any], output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(detail, indent=1))
        return
    out.print(f"{detail['name']}: {detail['outcome'] or detail['state']}", style="bold")
    if detail["message"] and not detail["attempts"]:
        out.print(detail["message"])
    for attempt in detail["attempts"]:
        out.print(f"\nattempt {attempt['number']}: {attempt['outcome'] or 'unfinished'}, inputs {attempt['inputs']}")
        if attempt["message"]:
            out.print(f"{attempt['bad_stage']}: {attempt['message']}")
        listing(output, attempt["stages"], ["name", "outcome", "seconds", "cpu_seconds"])
        for test in (t for t in attempt["tests"] if t["outcome"] == "failed"):
            out.print(f"failed: {test['name']}")
        if attempt["diagnosis"]:
            out.print(f"diagnosis: {attempt['diagnosis']}", markup=False)
        for found in attempt["findings"]:
            out.print(f"found: {found['place']}: {found['what']}: {found['last']}")
        for artefact in attempt["artefacts"]:
            out.print(f"  {artefact['kind']:<9}{artefact['path']}")


def _at(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def _took(began: float, ended: float | None) -> str:
    if ended is None:
        return ""
    minutes, seconds = divmod(round(ended - began), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
