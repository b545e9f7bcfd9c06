"""The verb nightly: test a matrix of labs, show its history, render its report."""

from __future__ import annotations

import glob
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.commands import nightly_show
from labctl.commands.console import Format, listing, out, progress
from labctl.commands.options import MANY, Output
from labctl.errors import LabError
from labctl.nightly import analysis, artefact, jobs, report, upkeep
from labctl.nightly import bisect as bisection
from labctl.nightly import matrix as matrices
from labctl.nightly import merge as merging
from labctl.nightly import run as nights
from labctl.nightly.history import History, directory, known_durations
from labctl.nightly.model import Nightly, Retention
from labctl.progress import note
from labctl.topology.units import show_size

File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="the matrix; default: ./nightly.yaml, else the project's own"),
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="CELL", help="a cell or a pattern; repeatable")]
Exact = Annotated[
    list[str] | None, typer.Option("--cell", metavar="CELL", help="a cell, by its whole name; repeatable")
]


class CellFormat(StrEnum):
    """Output format of the cells."""

    TABLE = "table"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"


group = typer.Typer(no_args_is_help=True)
group.command("list")(nightly_show.list_runs)
group.command("show")(nightly_show.show)


@group.callback()
def nightly() -> None:
    """Test a matrix of labs each night, and show what broke, since when, where."""


@group.command()
def cells(
    file: File = None,
    only: Only = None,
    exact: Exact = None,
    count: Annotated[
        int | None, typer.Option("--jobs", min=1, max=MANY, help="jobs of a CI system; default: one for each cell")
    ] = None,
    output: Annotated[
        CellFormat, typer.Option("-o", "--output", help="table, json, or the jobs as github or gitlab take them")
    ] = CellFormat.TABLE,
) -> None:
    """List the cells of the matrix: what each resolves to on this machine, or why it is impossible."""
    chosen = _chosen(matrices.load(matrices.find(file)), only, exact)
    with progress():
        seconds = known_durations()
    github = output is CellFormat.GITHUB
    made = jobs.pack(chosen, seconds, jobs.most(count, len(chosen), github=github))
    if github:
        typer.echo(jobs.github(made))
        return
    if output is CellFormat.GITLAB:
        typer.echo(jobs.gitlab(made, file, [*(only or []), *(glob.escape(name) for name in exact or [])]), nl=False)
        return
    number = {name: job.number for job in made for name in job.cells}
    rows = [
        {
            "cell": cell.name,
            "topology": cell.topology,
            **{key: cell.chosen.get(key, getattr(cell, key) or "") for key in ("release", "base", "driver")},
            "nodes": cell.nodes,
            "memory": show_size(cell.memory),
            "impossible": cell.impossible,
            "bytes": cell.memory,
            "seconds": round(seconds[cell.name]) if cell.name in seconds else None,
            "job": number[cell.name],
        }
        for cell in chosen
    ]
    columns = ["cell", "release", "base", "driver", "nodes", "memory", *(["job"] if count else []), "impossible"]
    listing(Format(output.value), rows, columns)


def _chosen(found: matrices.Matrix, only: list[str] | None, exact: list[str] | None) -> tuple[matrices.Cell, ...]:
    if only and exact:
        raise LabError("--only takes patterns, --cell whole names: give one of them", "labctl nightly cells")
    return found.only(only or [], exact or [])


@group.command("run")
def run_night(
    file: File = None,
    only: Only = None,
    exact: Exact = None,
    place: Annotated[
        Path | None,
        typer.Option(
            "--artefact", metavar="TARGET", help="run as a job of a CI system: leave all in this directory, to merge"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run that was killed")] = False,
    either: Annotated[bool, typer.Option("--continue", help="resume a killed run, else start a new one")] = False,
    parallel: Annotated[
        int | None, typer.Option("--jobs", min=1, max=MANY, help="cells in parallel; default: one per two cores")
    ] = None,
    keep: Annotated[
        bool | None, typer.Option("--keep-on-failure/--remove-on-failure", help="override the file's setting")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the cells, run nothing")] = False,
) -> None:
    """Test every cell: up, test, down; exit status 1 when one is not good. Resume a killed run with --resume."""
    if (resume or either) and (only or exact or keep is not None):
        raise LabError("--resume keeps the run's own settings; --only, --cell and --keep-on-failure need a new run")
    if place is not None and keep:
        raise LabError("a job of a CI system leaves no lab: --artefact and --keep-on-failure exclude each other")
    if dry_run:
        cells(file, only, exact)
        return
    with progress(), nights.alone(), _opened(place, resume=resume) as history:
        if resume or (either and history.unfinished()):
            night = nights.resume(history, parallel, None)
        else:
            found = matrices.load(matrices.find(file))
            note("nightly", f"the matrix is {found.path}")
            job = artefact.new_job(history) if place is not None else ""
            night = nights.begin(history, found, _chosen(found, only, exact), parallel, keep, None, job)
        rows = night.run()
        number = night.number
        good = _finish_job(history, number, rows) if place is not None else _finish(history, number, rows)
    nightly_show.print_cells(rows, Format.TABLE)
    said = nightly_show.summary(rows)
    if place is not None:
        out.print(f"{place}: {said}; labctl nightly merge {place}")
    else:
        out.print(f"run {number}: {said}; labctl nightly show {number}; {reports_directory() / 'index.html'}")
    if not good:
        raise typer.Exit(1)


def _opened(place: Path | None, *, resume: bool) -> History:
    return History() if place is None else artefact.opened(place, resume=resume)


def _finish(history: History, number: int, rows: list[dict[str, Any]], *, told: bool = True) -> bool:
    """End a run of this machine's history: report, hook, removal of what is old; return True when it is good."""
    settings = Nightly.model_validate_json(history.run(number)["settings"])
    index = reports_directory() / "index.html"
    after: list[Callable[[], object]] = [lambda: report.write(history, index.parent)]
    if told:
        after.append(lambda: upkeep.notify(history, number, settings.notify, index))
        after.append(lambda: upkeep.tidy(history, settings.retention))
    return nights.finish(history, number, rows, after)


def _finish_job(history: History, number: int, rows: list[dict[str, Any]]) -> bool:
    """End a job, whose night is told of when all its jobs are merged; return True when it is good."""
    place = history.path.parent / "report"
    return nights.finish(
        history, number, rows, [lambda: report.write(history, place), lambda: artefact.seal(history, number)]
    )


@group.command()
def merge(
    places: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="artefacts of jobs, or directories of artefacts")
    ],
    expected: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="what cells there were: an output of nightly cells, or the matrix itself"),
    ] = None,
) -> None:
    """Make one run of the cells that jobs of a CI system ran with --artefact; exit status as that of a whole night."""
    wanted = jobs.expected(expected) if expected else []
    with progress(), nights.alone(), History() as history:
        made = merging.merge(history, places, wanted)
        rows = history.cells(made.run)
        good = _finish(history, made.run, rows, told=made.changed)
    nightly_show.print_cells(rows, Format.TABLE)
    said = nightly_show.summary(rows)
    out.print(f"run {made.run}: {said}; labctl nightly show {made.run}; {reports_directory() / 'index.html'}")
    if not good:
        raise typer.Exit(1)


def reports_directory() -> Path:
    """Where the report is written."""
    return directory() / "report"


@group.command("report")
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


@group.command()
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


@group.command()
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
