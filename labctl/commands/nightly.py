"""The verb nightly: test a matrix of labs, show its history, render its report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import MANY, Output
from labctl.errors import LabError
from labctl.nightly import analysis, report, upkeep
from labctl.nightly import bisect as bisection
from labctl.nightly import matrix as matrices
from labctl.nightly import run as nights
from labctl.nightly.history import GOOD, History, directory
from labctl.nightly.model import Nightly, Retention
from labctl.progress import note
from labctl.testing.junit import first_line
from labctl.topology.units import show_size

File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="the matrix; default: ./nightly.yaml, else the project's own"),
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="CELL", help="a cell or a pattern; repeatable")]

nightly = typer.Typer(help="Test a matrix of labs each night, and show what broke, since when, where.")


@nightly.command()
def cells(file: File = None, output: Output = Format.TABLE) -> None:
    """List the cells of the matrix: what each resolves to on this machine, or why it is impossible."""
    found = matrices.load(matrices.find(file))
    rows = [
        {
            "cell": cell.name,
            "topology": cell.topology,
            **{key: cell.chosen.get(key, getattr(cell, key) or "") for key in ("release", "base", "driver")},
            "nodes": cell.nodes,
            "memory": show_size(cell.memory),
            "impossible": cell.impossible,
            "bytes": cell.memory,
        }
        for cell in found.cells
    ]
    listing(output, rows, ["cell", "release", "base", "driver", "nodes", "memory", "impossible"])


@nightly.command("run")
def run_night(
    file: File = None,
    only: Only = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run that was killed")] = False,
    either: Annotated[bool, typer.Option("--continue", help="resume a killed run, else start a new one")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=MANY, help="cells in parallel; default: one per two cores")
    ] = None,
    keep: Annotated[
        bool | None, typer.Option("--keep-on-failure/--remove-on-failure", help="override the file's setting")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the cells, run nothing")] = False,
) -> None:
    """Test every cell: up, test, down; exit status 1 when one is not good. Resume a killed run with --resume."""
    if (resume or either) and (only or keep is not None):
        raise LabError("--resume keeps the run's own settings; --only and --keep-on-failure need a new run")
    if dry_run:
        cells(file)
        return
    with progress(), nights.alone(), History() as history:
        if resume or (either and history.unfinished()):
            night = nights.resume(history, jobs, None)
        else:
            found = matrices.load(matrices.find(file))
            note("nightly", f"the matrix is {found.path}")
            night = nights.begin(history, found, found.only(only or []), jobs, keep, None)
        rows = night.run()
        number = night.number
        settings = Nightly.model_validate_json(history.run(number)["settings"])
        index = reports_directory() / "index.html"
        good = nights.finish(
            night,
            rows,
            [
                lambda: report.write(history, index.parent),
                lambda: upkeep.notify(history, number, settings.notify, index),
                lambda: upkeep.tidy(history, settings.retention),
            ],
        )
    _print_cells(rows, Format.TABLE)
    out.print(f"run {number}: {summary(rows)}; labctl nightly show {number}; {index}")
    if not good:
        raise typer.Exit(1)


def reports_directory() -> Path:
    """Where the report is written."""
    return directory() / "report"


def summary(rows: list[dict[str, Any]]) -> str:
    """Cells by outcome: ``3 passed, 1 failed``."""
    outcomes = [row["outcome"] or row["state"] for row in rows]
    return ", ".join(f"{outcomes.count(o)} {o}" for o in dict.fromkeys(sorted(outcomes))) or "no cells"


@nightly.command("list")
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


@nightly.command()
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
    _print_cells(rows, output)


@contextmanager
def _run(number: int | None) -> Iterator[tuple[History, dict[str, Any]]]:
    with History() as history:
        if number is None:
            newest = history.rows("SELECT max(id) AS id FROM runs")[0]["id"]
            if newest is None:
                raise LabError("there are no runs yet", "labctl nightly run")
            number = int(newest)
        yield history, history.run(number)


def _print_cells(rows: list[dict[str, Any]], output: Format) -> None:
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


@nightly.command("report")
def write_report(
    target: Annotated[Path | None, typer.Argument(metavar="[TARGET]", help="default: the history's own")] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", min=1, max=MANY, help="number of runs shown in full")
    ] = report.SHOWN,
) -> None:
    """Write the report: static pages, index.html first."""
    with progress(), History() as history:
        first = report.write(history, target or reports_directory(), number)
    out.print(str(first))


@nightly.command()
def prune(
    runs: Annotated[int | None, typer.Option(min=1, max=MANY, help="runs whose logs and artefacts are kept")] = None,
    labs: Annotated[int | None, typer.Option(min=0, max=MANY, help="labs of failures to keep")] = None,
    file: File = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be removed, remove nothing")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Remove logs and artefacts of old runs and kept labs beyond the file's retention; keep outcomes and times."""
    given = {k: v for k, v in {"runs": runs, "labs": labs}.items() if v is not None}
    retention = Retention(**given) if len(given) == 2 else matrices.load(matrices.find(file)).settings.retention
    retention = retention.model_copy(update=given)
    with progress(), nights.alone(), History() as history:
        found = upkeep.old(history, retention)
        left = [] if dry_run else upkeep.prune(history, found)
    rows = [{**vars(item), "shown": show_size(item.size), "removed": not dry_run} for item in found]
    listing(output, rows, ["kind", "name", "run", "shown"])
    if left:
        raise LabError(f"could not remove {', '.join(left)}", "labctl nightly prune")


@nightly.command()
def bisect(
    cell: Annotated[str, typer.Argument(help="a cell in the history")],
    good: Annotated[str | None, typer.Option(metavar="COMMIT", help="default: the last good run's")] = None,
    bad: Annotated[str | None, typer.Option(metavar="COMMIT", help="default: the first bad run's")] = None,
    stage: Annotated[str | None, typer.Option(help="a stage of up, join or test; default: the first bad one")] = None,
    test: Annotated[str, typer.Option(help="judge by this test alone; with --source, by those that -k selects")] = "",
    source: Annotated[
        str, typer.Option(metavar="PROJECT=REPOSITORY", help="search in this project's commits instead of labctl's")
    ] = "",
    file: File = None,
    output: Output = Format.TABLE,
) -> None:
    """Find the commit that broke a cell: try each on a real lab, from a snapshot where possible."""
    if source:
        project, sign, place = source.partition("=")
        if not (sign and place and good and bad):
            raise typer.BadParameter("--source PROJECT=REPOSITORY needs --good COMMIT and --bad COMMIT")
        from labctl.nightly.culprit import Culprit  # the SDK takes a while to load

        with progress(), nights.alone(), History() as history:
            (chosen,) = matrices.chosen(matrices.load(matrices.find(file)).cells, [cell])
            found = Culprit(history, chosen, project, place, good, bad, test)
            culprit, subject = found.run()
        listing(output, [vars(t) for t in found.tries], ["commit", "verdict", "seconds", "subject", "why"])
        if output is Format.TABLE:
            out.print(f"first bad commit: {culprit} {subject}")
        return
    with progress(), nights.alone(), History() as history:
        known = analysis.timeline(history)
        names = [matrices.Cell(name=name, topology=name) for name in known]
        search = bisection.begin(history, matrices.chosen(names, [cell])[0].name, good, bad, known)
        search.stage, search.test = stage or ("test" if test else search.stage), test
        culprit, subject = search.run()
    listing(output, [vars(t) for t in search.tries], ["commit", "verdict", "seconds", "checkpoint"])
    if output is Format.TABLE:
        out.print(f"first bad commit: {culprit} {subject}")


def _at(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def _took(began: float, ended: float | None) -> str:
    if ended is None:
        return ""
    minutes, seconds = divmod(round(ended - began), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(nightly, name="nightly", no_args_is_help=True)
