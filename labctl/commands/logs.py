"""Verbs that show what happened: logs, bundle."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.commands import complete
from labctl.commands.console import Format, err, out, progress
from labctl.commands.options import LabName, Output
from labctl.records.lab import Lab

if TYPE_CHECKING:
    from labctl.lab import logs as lines


def logs(
    name: LabName,
    node: Annotated[
        str | None,
        typer.Argument(help="a node; or a unit, to read it on every node", autocompletion=complete.nodes),
    ] = None,
    unit: Annotated[str | None, typer.Argument(help="a daemon by its upstream name, a project, or a unit")] = None,
    since: Annotated[str | None, typer.Option(help="start time: 10m, 2h, 09:30 or 2026-01-31")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="follow new lines until Ctrl-C")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Print the journal and the services' log files of a lab's nodes, merged by time, secrets redacted.

    The logs of stopped, paused or cut-off nodes are read from their disks. With --follow, JSON output has one
    object per line.
    """
    from labctl.lab import logs as lines

    lab = Lab.load(name)
    if node is not None and node not in lab.spec.nodes:
        if unit is not None or not lines.units(lab, node):
            lab.spec.node(node)  # names those there are
        node, unit = None, node
    nodes = [node] if node else list(lab.spec.nodes)
    begin = lines.since(since)
    if follow:
        begin = time.time() if begin is None else begin
        try:
            for fresh in lines.follow(lab, nodes, begin, unit):
                _print(fresh, (lambda line: json.dumps(_row(line))) if output is Format.JSON else _text)
        except KeyboardInterrupt:  # the normal end
            return
    found = lines.collect(lab, nodes, begin, unit)
    if output is Format.JSON:
        json.dump([_row(line) for line in found], sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    _print(found, _text)
    if not found:
        err.print("no lines")


def _print(found: list[lines.Line], show: Callable[[lines.Line], str]) -> None:
    for line in found:
        sys.stdout.write(f"{show(line)}\n")
    sys.stdout.flush()


def _text(line: lines.Line) -> str:
    return f"{_time(line.at)} {line.node} {line.source}: {line.text}"


def _row(line: lines.Line) -> dict[str, str]:
    return {"time": _time(line.at), "node": line.node, "source": line.source, "text": line.text}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "milliseconds")


def bundle(
    name: LabName,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="TARGET", help="file to write")] = None,
) -> None:
    """Collect logs, configuration, state and diagnosis of a lab into one tar.zst, secrets redacted."""
    from labctl.diagnose import report as diagnoses
    from labctl.lab import bundle as bundles

    lab = Lab.load(name)
    target = output or Path(bundles.file_name(name))
    with progress():
        bundles.write(lab, target, {"diagnosis": lambda: diagnoses.report(name).members()})
    out.print(str(target))
