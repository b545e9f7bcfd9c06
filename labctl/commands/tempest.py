"""The verb tempest: OpenStack's own test suite against a lab."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer

from labctl.commands.console import Format, out, progress
from labctl.commands.options import MANY, LabName, Output
from labctl.errors import LabError
from labctl.host import files
from labctl.nightly.tempest_choice import Chosen, Set
from labctl.records.lab import Lab
from labctl.topology.units import parse_time


def tempest(
    name: LabName,
    chosen: Annotated[
        Set | None,
        typer.Option(
            "--set",
            help="smoke (the default): a few of each API; api: the APIs' whole suites; scenario: several APIs together",
        ),
    ] = None,
    regex: Annotated[str, typer.Option(help="run the tests that match, instead of a set")] = "",
    load_list: Annotated[
        Path | None, typer.Option("--load-list", metavar="FILE", help="a file of test ids, one per line")
    ] = None,
    workers: Annotated[int, typer.Option("-n", min=1, max=MANY, help="tests in parallel")] = 2,
    timeout: Annotated[str, typer.Option(help="for all tests: 90 min; default: 2 h, for api and scenario 5 h")] = "",
    junit: Annotated[Path | None, typer.Option(metavar="TARGET", help="also write the JUnit file here")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Test a lab with the release's own version of Tempest; exit status 1 on unexpected failures."""
    from labctl.nightly import tempest as judge

    if sum(map(bool, (chosen, regex, load_list))) > 1:
        raise LabError("--set, --regex and --load-list exclude each other")
    try:
        seconds = parse_time(timeout or (chosen or Set.SMOKE).time)
    except ValueError as error:
        raise LabError(f"--timeout: {error}") from error
    with progress():
        result = judge.run(name, Chosen(chosen or Set.SMOKE, regex, load_list), workers, seconds)
    if junit:
        files.copy(result.report, junit, 0o644)
    sources = Lab.load(name).spec.sources
    count = {outcome: result.count(outcome) for outcome in ("passed", "failed", "known", "skipped")}
    failed = [case.name for case in result.cases if case.outcome == "failed"]
    known = {case.name: case.message for case in result.cases if case.outcome == "known"}
    if output is Format.JSON:
        rest = {"seconds": round(result.seconds, 1), "late": result.late, "junit": str(result.report)}
        typer.echo(
            json.dumps(
                {
                    **{"lab": name, "run": result.run, **count, **rest, "failures": failed, "known_failures": known},
                    "skip_reasons": result.reasons(),
                    "sources": {project: source.model_dump() for project, source in sources.items()},
                },
                indent=1,
            )
        )
    else:
        for test in failed:
            out.print(f"failed: {test}")
        for test, why in known.items():
            out.print(f"fails on every lab of this release: {test}\n  {why}")
        for why, number in result.reasons().items():
            out.print(f"skipped {number}: {shorten(why, 120)}")
        late = ", timed out" if result.late else ""
        out.print(f"{name}: {', '.join(f'{n} {o}' for o, n in count.items())} in {result.seconds:.0f} s{late}")
        for project, source in sources.items():
            out.print(f"  with {project} {source.title} from {source.origin}")
        out.print(f"  {result.report}; labctl nightly show {result.run}")
    if not result.good:
        raise typer.Exit(1)
