"""The verb diagnose."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from labctl.commands.console import Format, out, progress
from labctl.commands.options import LabName, Output
from labctl.errors import BrokenLabError
from labctl.records.lab import Lab, locked


def diagnose(
    name: LabName,
    only: Annotated[str, typer.Option(metavar="SERVICE", help="only this service, and what it depends on")] = "",
    fix: Annotated[bool, typer.Option("--fix", help="apply the fixes that cannot lose data, and look again")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="log lines since 10m, 2h, 09:30 or 2026-01-31 [default: 10m]")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Explain what is wrong with a lab: root causes first, each with the command that mends it."""
    from labctl.diagnose import report, run
    from labctl.diagnose.patterns import Window
    from labctl.lab import logs

    lab = Lab.load(name)
    window = Window.of(lab, logs.since(since))
    done: list[str] = []
    with locked(name, f"labctl diagnose {name}"), progress():
        if fix:
            done, found = run.mended(lab, only, window=window)
        else:
            found = run.diagnose(lab, only, window)
    if output is Format.JSON:
        typer.echo(json.dumps({"lab": name, "done": done, **report.rows(found)}, indent=1))
        raise typer.Exit(1 if found.causes else 0)
    for line in done:
        out.print(line if line.startswith(run.FAILED) else f"done: {line}", markup=False)
    if not found.causes:
        out.print(f"{name}: mended" if done else f"{name}: nothing is wrong")
    for line in found.lines():
        out.print(line, markup=False)
    if not found.causes:
        return
    raise BrokenLabError(f"{name}: {len(found.causes)} findings", found.causes[0].fix)
